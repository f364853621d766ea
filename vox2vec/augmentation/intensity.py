"""Random blur, sharpening, noise and window: what makes two views of a voxel look different."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, Num
from torch import Tensor

from vox2vec.augmentation.axial import axial_blur, axial_sharpening
from vox2vec.augmentation.draws import chosen, uniform
from vox2vec.recipe import PAPER

_SHARPEN_SIGMA = 0.5  # voxels; of the blur that sharpening subtracts


@dataclass(frozen=True, eq=False)
class Intensity:
    """What happens to the HU of each of `n` patches; drawn by `draw_intensity`, on the CPU.

    Attributes:
        blur_sigma: voxels, 0 for none.
        sharpen_alpha: weight of the edges added after the blur, 0 for none.
        noise_hu: standard deviation, 0 for none.
        noise_seed: of each patch's own noise, so that a patch's view does not depend on its neighbours in the batch.
        window_hu: HU that become 0 and 1.
    """

    blur_sigma: Float32[Tensor, " n"]
    sharpen_alpha: Float32[Tensor, " n"]
    noise_hu: Float32[Tensor, " n"]
    noise_seed: Int64[Tensor, " n"]
    window_hu: Float32[Tensor, "n 2"]


def draw_intensity(
    n: int,
    *,
    generator: torch.Generator,
    filter_probability: float = 0.5,
    blur_sigma: tuple[float, float] = (0.25, 1.5),
    sharpen_blur_sigma: tuple[float, float] = (0.5, 1.0),
    sharpen_alpha: tuple[float, float] = (10.0, 30.0),
    noise_probability: float = 0.5,
    noise_hu: tuple[float, float] = (0.0, 30.0),
    window_probability: float = 0.8,
    window_low_hu: tuple[float, float] = (-1350.0, -1000.0),
    window_high_hu: tuple[float, float] = (300.0, 1000.0),
    full_window_hu: tuple[float, float] = PAPER.window_hu,
) -> Intensity:
    """Parameters for `n` patches, each range uniform, each patch independent of the others.

    Args:
        generator: on the CPU; the only source of chance, the noise itself included.
        filter_probability: of blur or sharpening, each half of the time.
        blur_sigma: voxels in the axial plane.
        sharpen_blur_sigma: of the blur before sharpening.
        noise_hu: standard deviation of Gaussian noise.
        full_window_hu: where no window is drawn; the recipe's.

    Source: docs/method.md section 3; arXiv 2307.14725, section 3.
    """
    filtered = chosen(n, filter_probability, generator)
    sharpened = filtered & chosen(n, 0.5, generator)
    sigma = torch.where(sharpened, uniform(n, sharpen_blur_sigma, generator), uniform(n, blur_sigma, generator))
    windowed = chosen(n, window_probability, generator)
    window = torch.stack([uniform(n, window_low_hu, generator), uniform(n, window_high_hu, generator)], dim=1)
    return Intensity(
        blur_sigma=sigma * filtered,
        sharpen_alpha=uniform(n, sharpen_alpha, generator) * sharpened,
        noise_hu=uniform(n, noise_hu, generator) * chosen(n, noise_probability, generator),
        noise_seed=torch.randint(2**31, (n,), generator=generator),
        window_hu=torch.where(windowed[:, None], window, torch.tensor(full_window_hu)),
    )


def with_intensity(patches_hu: Num[Tensor, "n 1 x y z"], drawn: Intensity) -> Float32[Tensor, "n 1 x y z"]:
    """The patches filtered, noised and windowed to [0, 1], on their own device and always in float32.

    Noise is the same for the same seed on one kind of device, not between CPU and GPU.

    Raises:
        ValueError: parameters drawn for another number of patches.
    """
    if len(patches_hu) != len(drawn.noise_hu):
        raise ValueError(
            f"parameters must be drawn for each of the {len(patches_hu)} patches, got {len(drawn.noise_hu)}"
        )
    views = _empty(patches_hu.shape, patches_hu.device)
    _teach_malloc()
    noisy = torch.nonzero(drawn.noise_hu > 0).ravel().tolist()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # torch draws a tensor's numbers in one
        list(threads.map(lambda i: _fill_with_noise(views[i], drawn, i), noisy))
    for i, view in enumerate(views.unbind()):  # one by one: two megabytes stay in a processor's cache
        _add(view[0], patches_hu[i, 0], drawn, i)
    return views


def _empty(shape: torch.Size, device: torch.device) -> Float32[Tensor, "n 1 x y z"]:
    """On a CPU numpy's memory: unlike torch it asks for huge pages, which are there four times sooner."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, device=device)


def _teach_malloc() -> None:
    """Free an untouched block of 24 MB: from then on glibc keeps memory of a few patches for the next one, where it
    gave it back to the system after each, to be faulted in anew (half of the time of a blur)."""
    torch.empty(24 * 2**20, dtype=torch.uint8)


def _fill_with_noise(view: Float32[Tensor, "1 x y z"], drawn: Intensity, i: int) -> None:
    generator = torch.Generator(view.device).manual_seed(int(drawn.noise_seed[i]))
    view.normal_(0, float(drawn.noise_hu[i]), generator=generator)


def _add(view: Float32[Tensor, "x y z"], hu: Num[Tensor, "x y z"], drawn: Intensity, i: int) -> None:
    """One patch, filtered, onto its noise where there is some, and windowed."""
    if drawn.blur_sigma[i] > 0:
        hu = axial_blur(hu.float(), float(drawn.blur_sigma[i]))
    if drawn.sharpen_alpha[i] > 0:
        hu = axial_sharpening(hu.float(), sigma=_SHARPEN_SIGMA, alpha=float(drawn.sharpen_alpha[i]))
    low, high = drawn.window_hu[i].tolist()
    if drawn.noise_hu[i] > 0:
        view.add_(hu).sub_(low)
    else:
        torch.sub(hu, low, out=view)
    view.div_(high - low).clamp_(0, 1)
