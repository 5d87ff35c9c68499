"""Write tiny data sets in the forms that users have."""

import json

import nibabel as nib
import numpy as np
from PIL import Image

RED_GREEN_BLUE = ["red", "green", "blue"]


def square(number, values=(0, 255), shape=(20, 24)):
    label = np.full(shape, values[0], np.uint8)
    label[4 + number % 3 : 12, 5:15] = values[1]
    return label


def noise(number, shape, dtype=np.uint8):
    return np.random.default_rng(number).integers(0, 200, shape).astype(dtype)


def picture(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(data).save(path)
    return path


def volume(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([1.5, 1.5, 8.0, 1.0]) if affine is None else affine), path)
    return path


def pictures(root, cases=6):
    """Write gray pictures with a class of value 255."""
    for n in range(cases):
        picture(root / f"images/c{n}.png", noise(n, (20, 24)))
        picture(root / f"labels/c{n}.tif", square(n))
    return root


def label_volume(n):
    return np.stack([square(n, (0, 1)), square(n, (0, 2))], axis=2)


def nnunet(root, cases=4, channels=("CT",), version=2):
    names = {str(n): name for n, name in enumerate(channels)}
    content = {"modality": names, "labels": {"0": "background", "1": "Liver", "2": "Kidney (left)"}}
    if version == 2:
        classes = {"background": 0, "Liver": 1, "Kidney (left)": 2}
        content = {"channel_names": names, "labels": classes, "file_ending": ".nii.gz", "numTraining": cases}
    for n in range(cases):
        for channel in range(len(channels)):
            data = noise(10 * n + channel, (20, 24, 2), np.int16) - 100
            volume(root / f"imagesTr/s{n}_{channel:04d}.nii.gz", data)
        volume(root / f"labelsTr/s{n}.nii.gz", label_volume(n))
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def decathlon(root, cases=4, channels=("T2", "ADC")):
    training = []
    for n in range(cases):
        shape = (20, 24, 2, len(channels)) if len(channels) > 1 else (20, 24, 2)
        volume(root / f"imagesTr/p{n // 2}_{n}.nii.gz", noise(n, shape, np.float32))
        volume(root / f"labelsTr/p{n // 2}_{n}.nii.gz", label_volume(n))
        training.append({part: f"./{part}sTr/p{n // 2}_{n}.nii.gz" for part in ("image", "label")})
    names = {str(n): name for n, name in enumerate(channels)}
    labels = {"0": "background", "1": "PZ", "2": "TZ"}
    content = {"modality": names, "labels": labels, "training": training, "numTraining": cases}
    (root / "dataset.json").write_text(json.dumps(content))
    return root
