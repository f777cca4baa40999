"""Augmentation: pure functions on whole batches of pictures, (n, 28, 28) or (n, 56, 56) → the same.

MNIST knows one pen. People draw with any, so some of what the network sees is MNIST drawn again: each digit is thinned
to its skeleton, once; a picture holds each pixel's distance to that skeleton; and in training that picture is warped
and drawn with a round pen of random width, then cut, scaled and centred as `utils.preprocess` does it to a canvas.
"""

import math

import torch
import torch.nn.functional as F

from utils import BOX, CENTRE, FIELD

FINE = 2 * FIELD  # a distance field has 56×56 pixels: half a pixel of MNIST each
REACH = 8.0  # fine pixels: distances are kept up to this
CLOGGED = 2.25  # fine pixels that half of a line's width may grow


def skeleton(ink: torch.Tensor) -> torch.Tensor:
    """(n, h, w) bool → (n, h, w) bool, thinned to lines one pixel wide (Zhang and Suen, 1984)."""
    ink = ink.clone()
    while True:
        before = ink
        for step in (0, 1):
            p = F.pad(ink, (1, 1, 1, 1))
            n, s, w, e = p[:, :-2, 1:-1], p[:, 2:, 1:-1], p[:, 1:-1, :-2], p[:, 1:-1, 2:]
            ne, se, sw, nw = p[:, :-2, 2:], p[:, 2:, 2:], p[:, 2:, :-2], p[:, :-2, :-2]
            ring = (n, ne, e, se, s, sw, w, nw)
            neighbours = sum(a.to(torch.uint8) for a in ring)
            rises = sum((~a & b).to(torch.uint8) for a, b in zip(ring, (*ring[1:], n), strict=True))
            open_side = ~(n & e & s) & ~(e & s & w) if step == 0 else ~(n & e & w) & ~(n & s & w)
            ink = ink & ~((neighbours >= 2) & (neighbours <= 6) & (rises == 1) & open_side)
        if torch.equal(before, ink):
            return ink


def distance_field(lines: torch.Tensor) -> torch.Tensor:
    """(n, h, w) bool → (n, h, w) uint8: Euclidean distance to the nearest True, in 1/32 pixel, at most REACH."""
    reach, far = int(REACH) - 1, int(REACH) ** 2
    squared = (~lines).to(torch.uint8) * far  # squared distances up to 64 + 49 fit a byte
    for dim in (1, 2):  # the squared distance is separable: first along columns, then along rows
        size = squared.shape[dim]
        nearest = squared.clone()
        for k in range(1, reach + 1):
            ahead, behind = nearest.narrow(dim, 0, size - k), nearest.narrow(dim, k, size - k)
            torch.minimum(ahead, squared.narrow(dim, k, size - k) + k * k, out=ahead)
            torch.minimum(behind, squared.narrow(dim, 0, size - k) + k * k, out=behind)
        squared = nearest
    return _ROOTS[squared.int()]


_ROOTS = (torch.arange(256).clamp(max=int(REACH) ** 2).sqrt() * 32).clamp(max=255).to(torch.uint8)


def thin(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 28, 28) uint8 digits → (m, 56, 56) bool skeletons of those that are clear; (n,) bool: which are.

    Where the ink of a digit is far thicker than along most of it, a loop may be full of it, and thinning makes a mere
    line of that: a six becomes a "c", an eight a "y".
    """
    lines, clear = [], []
    for part in images.split(64):
        ink = F.interpolate(part[:, None].float(), scale_factor=2, mode="bicubic", align_corners=False)[:, 0] > 100
        lines.append(skeleton(ink))
        depth = distance_field(~ink).float() / 32
        along = depth.where(lines[-1], torch.nan).flatten(1).nanmedian(1).values
        clear.append(depth.amax((1, 2)) - along <= CLOGGED)
    which = torch.cat(clear)
    return torch.cat(lines)[which], which


def fields(lines: torch.Tensor) -> torch.Tensor:
    """(n, 56, 56) bool lines → (n, 56, 56) uint8 distance fields, made in parts that fit the processor's cache."""
    return torch.cat([distance_field(part) for part in lines.split(64)])


def uniform(n: int, low: float, high: float) -> torch.Tensor:
    return torch.rand(n) * (high - low) + low


def random_affine(n: int, degrees: float, shear: float, stretch: float) -> torch.Tensor:
    """(n, 2, 2) maps from output to input: rotation, shear, and a change of the aspect ratio by up to e^±stretch."""
    angle, slant, aspect = (
        uniform(n, -degrees, degrees) * math.pi / 180,
        uniform(n, -shear, shear),
        uniform(n, -stretch, stretch),
    )
    cos, sin, x, y = angle.cos(), angle.sin(), (aspect / 2).exp(), (-aspect / 2).exp()
    rotation = torch.stack([cos, -sin, sin, cos], 1).view(n, 2, 2)
    form = torch.stack([x, slant * y, torch.zeros(n), y], 1).view(n, 2, 2)
    return rotation @ form


def elastic(n: int, size: int, knots: int, strength: torch.Tensor) -> torch.Tensor:
    """(n, size, size, 2) smooth random displacements in the units of `grid_sample`; strength: (n,) deviations."""
    noise = torch.randn(n, 2, knots, knots) * strength.view(n, 1, 1, 1)
    return F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def grid(size: int) -> torch.Tensor:
    """(size, size, 2): the pixel centres as (x, y) in -1..1, as `grid_sample` counts them."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1)


def warp_gray(images: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """(n, 28, 28) float pictures, each turned, slanted, scaled, moved, bent, and made thinner or thicker."""
    n, s = len(images), strength
    zoom = uniform(n, -0.12 * s, 0.12 * s).exp().view(n, 1, 1)
    where = grid(FIELD).view(1, -1, 2) @ (random_affine(n, 12 * s, 0.2 * s, 0.12 * s) * zoom).mT
    where = where.view(n, FIELD, FIELD, 2) + uniform(2 * n, -1.5 * s, 1.5 * s).view(n, 1, 1, 2) * 2 / FIELD
    where = where + elastic(n, FIELD, 5, 0.035 * s * torch.rand(n))
    images = F.grid_sample(images[:, None], where, align_corners=False)
    width = uniform(n, -0.5 * s, 0.9 * s).view(n, 1, 1, 1)
    wider, thinner = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
    images = torch.where(width > 0, images + width * (wider - images), images + width * (images - thinner))[:, 0]
    return images / images.amax((1, 2), keepdim=True).clamp(min=0.1)


def warp_field(fields: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """(n, 56, 56) float distances in fine pixels, each turned, slanted, stretched and bent."""
    n, s = len(fields), strength
    where = (grid(FINE).view(1, -1, 2) @ random_affine(n, 15 * s, 0.3 * s, 0.3 * s).mT).view(n, FINE, FINE, 2)
    where = where * 1.1 + elastic(n, FINE, 5, 0.06 * s * torch.rand(n))  # 1.1: room for corners that turn outwards
    return REACH - F.grid_sample(REACH - fields[:, None], where, align_corners=False)[:, 0]


def blur(pictures: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """(n, h, w) float pictures, each blurred by a Gaussian of its own width: (n,) in pixels, up to 1, none at 0."""
    n, reach = len(pictures), torch.arange(-3.0, 4.0)
    bell = (-((reach / sigma.clamp(min=1e-3).view(n, 1)) ** 2) / 2).exp()
    bell = bell / bell.sum(1, keepdim=True)
    columns = F.conv2d(pictures[None], bell.view(n, 1, 7, 1), padding=(3, 0), groups=n)
    return F.conv2d(columns, bell.view(n, 1, 1, 7), padding=(0, 3), groups=n)[0]


def draw(fields: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """(n, 56, 56) float distances in fine pixels → (n, 28, 28) float in 0..1, drawn with a round pen.

    radius: (n,) of the pen, in pixels of the finished picture. The drawing with its pen's width is scaled into 20×20
    and its centre of mass put on the middle, as `utils.preprocess` does it.
    """
    n = len(fields)
    line = fields < 0.9
    (left, right), (top, bottom) = _extent(line.any(1)), _extent(line.any(2))
    side = torch.maximum(right - left, bottom - top)
    side = torch.maximum(side, 0.5 * torch.ones(n))
    scale = (BOX - 2 * radius) / side  # pixels of the picture a fine pixel
    middle = torch.stack([left + right, top + bottom], 1) / 2
    pixel = (torch.arange(FINE) + 0.5) / 2 - CENTRE  # drawn with two pixels a pixel, then averaged: anti-aliasing
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    where = torch.stack([x, y], -1)[None] / scale.view(n, 1, 1, 1) + middle.view(n, 1, 1, 2)
    distance = REACH - F.grid_sample(REACH - fields[:, None], where * 2 / FINE - 1, align_corners=False)[:, 0]
    distance = distance * scale.view(n, 1, 1)
    ink = ((radius.view(n, 1, 1) - distance) * 2 + 0.5).clamp(0, 1)
    picture = F.avg_pool2d(ink, 2)
    picture = picture / picture.amax((1, 2), keepdim=True).clamp(min=1e-3)
    return centre(picture)


def centre(pictures: torch.Tensor) -> torch.Tensor:
    """(n, 28, 28), each moved by whole pixels so that its centre of mass falls on the middle."""
    n = len(pictures)
    line = torch.arange(FIELD, dtype=torch.float32)
    total = pictures.sum((1, 2)).clamp(min=1e-3)
    shift_y = ((pictures.sum(2) @ line) / total - CENTRE).round().long()
    shift_x = ((pictures.sum(1) @ line) / total - CENTRE).round().long()
    rows, columns = torch.arange(FIELD) + shift_y[:, None], torch.arange(FIELD) + shift_x[:, None]
    inside = ((rows >= 0) & (rows < FIELD))[:, :, None] & ((columns >= 0) & (columns < FIELD))[:, None, :]
    moved = pictures[
        torch.arange(n)[:, None, None], rows.clamp(0, FIELD - 1)[:, :, None], columns.clamp(0, FIELD - 1)[:, None, :]
    ]
    return moved * inside


def _extent(profile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, size) bool → the middle of the first and of the last True pixel, (n,) float each."""
    size = profile.shape[1]
    profile = profile.float()
    return profile.argmax(1) + 0.5, size - 0.5 - profile.flip(1).argmax(1)
