"""Assemble the command line: ``python -m data_prep COMMAND``."""

import typer

from data_prep.cli import custom, medical, microscopy, phantoms, scenes, verify
from medpos.core.ending import run_plainly
from medpos.core.options import command
from medpos.core.streams import show_plainly

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Convert public data sets or custom data into one folder of NIfTI files with a dataset.json, make phantoms, "
    "check folders.\n\n"
    "Run the same command again at any time: finished cases are kept, changed ones are rewritten.",
)
command(app, medical.Jsrt)(medical.jsrt)
command(app, medical.Acdc)(medical.acdc)
command(app, microscopy.Nuclei)(microscopy.nuclei)
command(app, microscopy.Cells)(microscopy.cells)
command(app, medical.Ibsr)(medical.ibsr)
command(app, medical.Drive)(medical.drive)
command(app, medical.Polyp)(medical.polyp)
command(app, medical.Lits)(medical.lits)
command(app, medical.Lidc)(medical.lidc)
command(app, scenes.Camvid)(scenes.camvid)
command(app, scenes.Voc)(scenes.voc)
command(app, scenes.Cityscapes)(scenes.cityscapes)
command(app, scenes.Coco)(scenes.coco)
command(app, scenes.Sunrgbd)(scenes.sunrgbd)
command(app, scenes.Context)(scenes.context)
command(app, scenes.Parts)(scenes.parts)
command(app, scenes.Imagenet)(scenes.imagenet)
command(app, custom.Folder)(custom.folder)
command(app, custom.Nnunet)(custom.nnunet)
command(app, custom.Decathlon)(custom.decathlon)
command(app, phantoms.Phantoms)(phantoms.phantoms)
command(app, verify.Verify)(verify.verify)


def main() -> None:
    """Run the command line; bad input is shown as one line, not as a traceback."""
    show_plainly()
    run_plainly(app)
