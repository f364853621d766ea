"""What the paper's labelled sets hold: BTCV's organs, and the CT tasks of the Medical Segmentation Decathlon."""

BTCV_ORGANS = {
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gallbladder",
    5: "esophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior vena cava",
    10: "portal and splenic veins",
    11: "pancreas",
    12: "right adrenal gland",
    13: "left adrenal gland",
}

MSD_TASKS = {
    "3": "Task03_Liver",
    "6": "Task06_Lung",
    "7": "Task07_Pancreas",
    "8": "Task08_HepaticVessel",
    "9": "Task09_Spleen",
    "10": "Task10_Colon",
}

MSD_STRUCTURES = {
    "Task03_Liver": {1: "liver", 2: "liver tumour"},
    "Task06_Lung": {1: "lung tumour"},
    "Task07_Pancreas": {1: "pancreas", 2: "pancreas tumour"},
    "Task08_HepaticVessel": {1: "hepatic vessel", 2: "hepatic tumour"},
    "Task09_Spleen": {1: "spleen"},
    "Task10_Colon": {1: "colon cancer"},
}
"""By label number, as the paper names them."""
