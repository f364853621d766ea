"""The public data sets of the paper, each by its own layout; nothing is unpacked, no other software is needed."""

from pathlib import Path

from vox2vec.data.sources.dicom_tree import dicom_tree
from vox2vec.data.sources.layout import by_pattern
from vox2vec.data.sources.source import ListedSource
from vox2vec.data.sources.structures import BTCV_ORGANS

_AMOS_ORGANS = (
    "spleen, right kidney, left kidney, gallbladder, esophagus, liver, stomach, aorta, inferior vena cava, pancreas, "
    "right adrenal gland, left adrenal gland, duodenum, bladder, prostate or uterus"
)
_FLARE_ORGANS = (
    "liver, right kidney, spleen, pancreas, aorta, inferior vena cava, right adrenal gland, left adrenal gland, "
    "gallbladder, esophagus, stomach, duodenum, left kidney"
)


def amos(root: Path, *, unlabelled: bool = False) -> ListedSource:
    """AMOS 2022: the 500 CTs of 0001 to 0500, and with `unlabelled` those of 5000 on; `amos22.zip` or its tree.

    Ids are the four digits. Source: https://zenodo.org/records/7262581.
    """

    def refused(id: str) -> str | None:
        if 500 < int(id) <= 600:
            return "MRI: AMOS 0501 to 0600"
        return "unlabelled CT, not among the 500 of pre-training" if int(id) >= 5000 and not unlabelled else None

    return by_pattern(
        "AMOS",
        root,
        image={r"(?:^|/)(?:images(?:Tr|Va|Ts)|amos\d*_unlabeled[^/]*)/amos_(?P<number>\d{4})\.nii\.gz$": "{number}"},
        label={r"(?:^|/)labels(?:Tr|Va|Ts)/amos_(?P<number>\d{4})\.nii\.gz$": "{number}"},
        label_names=_numbered(_AMOS_ORGANS),
        expected="amos22.zip, or imagesTr/amos_0001.nii.gz and labelsTr/amos_0001.nii.gz",
        refused=refused,
    )


def flare2022(root: Path, *, labelled: bool = False) -> ListedSource:
    """FLARE 2022: the 2,000 unlabelled CTs, and with `labelled` the 50 labelled and the 50 of validation too.

    Ids are TU00001 (training, unlabelled), TL0001 (labelled), VU0001 (validation). Source:
    https://flare22.grand-challenge.org.
    """
    image = {r"(?:^|/)Case_(?P<number>\d+)_0000\.nii\.gz$": "TU{number}"}
    others = {
        r"(?:^|/)FLARE22_Tr_(?P<number>\d+)_0000\.nii\.gz$": "TL{number}",
        r"(?:^|/)FLARETs_(?P<number>\d+)_0000\.nii\.gz$": "VU{number}",
    }
    return by_pattern(
        "FLARE2022",
        root,
        image={**image, **others},
        label={r"(?:^|/)FLARE22_Tr_(?P<number>\d+)\.nii\.gz$": "TL{number}"},
        label_names=_numbered(_FLARE_ORGANS),
        expected="Training/*.zip with Case_00001_0000.nii.gz, or the same unpacked",
        refused=lambda id: None if labelled or id.startswith("TU") else "not among the 2,000 of pre-training",
    )


def btcv(root: Path) -> ListedSource:
    """BTCV (Beyond the Cranial Vault, abdomen): 30 labelled CTs, ids 0001 to 0040, and those of Testing, 0061 on.

    Source: https://www.synapse.org/Synapse:syn3193805.
    """
    return by_pattern(
        "BTCV",
        root,
        image={r"(?:^|/)(?:Training|Testing)/img/img(?P<number>\d{4})\.nii(?:\.gz)?$": "{number}"},
        label={r"(?:^|/)Training/label/label(?P<number>\d{4})\.nii(?:\.gz)?$": "{number}"},
        label_names=BTCV_ORGANS,
        expected="RawData/Training/img/img0001.nii.gz and RawData/Training/label/label0001.nii.gz",
    )


def nlst(root: Path, *, num_workers: int = 1) -> ListedSource:
    """NLST: the longest series of each patient. Source: https://doi.org/10.7937/TCIA.HMQ8-J677."""
    return dicom_tree(root, name="NLST", longest_per_patient=True, num_workers=num_workers)


def nsclc(root: Path, *, num_workers: int = 1) -> ListedSource:
    """NSCLC-Radiomics: every CT series. Source: https://doi.org/10.7937/K9/TCIA.2015.PF0M9REI."""
    return dicom_tree(root, name="NSCLC", num_workers=num_workers)


def midrc(root: Path, *, num_workers: int = 1) -> ListedSource:
    """MIDRC-RICORD-1a: every CT series. Source: https://doi.org/10.7937/VTW4-X588."""
    return dicom_tree(root, name="MIDRC", num_workers=num_workers)


def lidc(root: Path, *, num_workers: int = 1) -> ListedSource:
    """LIDC-IDRI: every CT series. Source: https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX."""
    return dicom_tree(root, name="LIDC", num_workers=num_workers)


def _numbered(names: str) -> dict[int, str]:
    return dict(enumerate(names.split(", "), start=1))
