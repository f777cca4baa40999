"""Augmentation: what training draws is what the canvas would show, and digits stay what they are."""

import numpy as np
import pytest
import torch

from evaluate import area_under_roc
from model import load_model
from training import augment, glyphs, nothing
from utils import BRUSH_WIDTH, preprocess_gray, render_strokes


def field_of(strokes: list[np.ndarray]) -> torch.Tensor:
    return augment.fields(torch.from_numpy(glyphs.rasterise(strokes).copy())[None]).float() / 32


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_drawn_in_training_looks_as_it_does_from_the_canvas(digit):
    for strokes in glyphs.DIGITS[digit][:4]:
        size = 200 / np.ptp(np.vstack(strokes), axis=0).max()
        on_canvas = [(s - np.vstack(strokes).min(axis=0)) * size + 30 for s in strokes]
        seen = preprocess_gray(render_strokes(on_canvas))
        # The canvas rounds the corners of a stroke; so must the lines that training starts from.
        radius = torch.tensor([20 * (BRUSH_WIDTH / 2) / (200 + BRUSH_WIDTH)])
        drawn = augment.draw(field_of([glyphs.chaikin(s, 3) for s in strokes]), radius)[None]
        assert 0.85 < float(drawn.sum() / seen.sum()) < 1.1
        shifts = [drawn.roll((dy, dx), (2, 3)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert min(float((seen - s).abs().sum() / seen.sum()) for s in shifts) < 0.45


def test_a_skeleton_is_one_pixel_wide_and_reaches_as_far_as_the_stroke():
    ink = torch.zeros(1, 56, 56, dtype=torch.bool)
    ink[0, 8:48, 20:27] = True
    line = augment.skeleton(ink)[0]
    assert line.sum(1).max() <= 2 and line[12:44].any(1).all()
    assert (line & ~ink[0]).sum() == 0


def test_a_six_whose_loop_is_full_of_ink_is_not_redrawn_and_one_that_is_thick_all_along_is():
    tail, loop = [(170, 30), (110, 120), (100, 190)], [(100, 190), (140, 150), (175, 190), (140, 235), (100, 190)]
    drawn = [render_strokes([tail, loop], brush=brush) for brush in (20, 36)]
    drawn.append(np.maximum(drawn[0], render_strokes([[(135, 190), (145, 195)]], brush=70)))
    images = torch.cat([(255 * preprocess_gray(gray)[0]).byte() for gray in drawn])
    lines, clear = augment.thin(images)
    assert clear.tolist() == [True, True, False] and len(lines) == 2


def test_a_distance_field_holds_the_distance_to_the_nearest_line():
    lines = torch.rand(3, 56, 56) > 0.99
    rows, columns = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
    points = torch.stack([rows, columns], -1).view(-1, 2)
    for line, field in zip(lines, augment.distance_field(lines), strict=True):
        expected = torch.cdist(points, line.nonzero().float()).amin(1).view(56, 56)
        near = expected < augment.REACH - 1
        assert (field[near] / 32 - expected[near]).abs().max() < 0.05
        assert (field[~near] / 32 >= augment.REACH - 1.05).all()


def test_a_warp_of_no_strength_changes_nothing():
    torch.manual_seed(0)
    images = torch.rand(4, 28, 28)
    images /= images.amax((1, 2), keepdim=True)
    assert torch.allclose(augment.warp_gray(images, 0.0), images, atol=1e-4)


def test_an_affine_map_turns_slants_and_stretches_by_up_to_what_is_asked_for_and_keeps_the_area():
    torch.manual_seed(0)
    maps = augment.random_affine(2000, 15, 0.3, 0.2)
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0])
    cos, sin = angle.cos(), angle.sin()
    form = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1) @ maps  # turned back
    slant, aspect = form[:, 0, 1] / form[:, 1, 1], (form[:, 0, 0] / form[:, 1, 1]).log()
    for value, limit in ((angle.rad2deg(), 15), (slant, 0.3), (aspect, 0.2)):
        assert -limit - 1e-4 <= value.min() < -0.95 * limit and 0.95 * limit < value.max() <= limit + 1e-4
    assert torch.allclose(torch.linalg.det(maps), torch.ones(2000), atol=1e-5)


def test_a_warp_makes_lines_thinner_and_thicker_and_bends_them(monkeypatch):
    torch.manual_seed(0)
    bar = torch.zeros(1, 28, 28)
    bar[0, 6:22, 13:16] = 1
    width = augment.warp_gray(bar.expand(300, 28, 28))[:, 13].sum(1) / 3
    assert width.min() < 0.65 and width.max() > 1.6  # its scale alone: 0.76 and 1.37
    monkeypatch.setattr(augment, "random_affine", lambda n, *limits: torch.eye(2).expand(n, 2, 2))
    lines = torch.zeros(20, 56, 56, dtype=torch.bool)
    lines[:, 8:48, 28] = True
    fields = augment.warp_field(augment.fields(lines).float() / 32)
    columns = fields.argmin(2)[:, 12:44]
    assert (columns.amax(1) - columns.amin(1)).max() >= 3


def test_a_blur_is_a_gaussian_of_the_width_asked_for_and_none_at_zero():
    torch.manual_seed(0)
    pictures = torch.rand(3, 28, 28)
    assert torch.equal(augment.blur(pictures, torch.zeros(3)), pictures)
    dots = torch.zeros(2, 28, 28)
    dots[:, 14, 14] = 1
    for dot, sigma in zip(augment.blur(dots, torch.tensor([0.8, 1.0])), (0.8, 1.0), strict=True):
        assert float(dot.sum()) == pytest.approx(1)
        place = torch.arange(28.0) - 14
        for along in (dot.sum(0), dot.sum(1)):
            assert float((along * place**2).sum()) == pytest.approx(sigma**2, rel=0.01)


def test_warps_and_pens_give_pictures_in_range_whatever_comes():
    torch.manual_seed(0)
    nothing, everything = torch.zeros(1, 56, 56, dtype=torch.bool), torch.ones(1, 56, 56, dtype=torch.bool)
    lines = torch.cat([nothing, everything, torch.rand(30, 56, 56) > 0.99])
    for radius in (0.3, 1.0, 4.0):
        pictures = augment.draw(augment.warp_field(augment.fields(lines).float() / 32), torch.full((32,), radius))
        assert pictures.shape == (32, 28, 28)
        assert torch.isfinite(pictures).all() and pictures.min() >= 0 and pictures.max() <= 1


def test_drawn_digits_are_twenty_pixels_long_and_centred_like_mnist():
    torch.manual_seed(0)
    lines, _ = glyphs.digit_styles(200, np.random.default_rng(0))
    pictures = augment.draw(augment.fields(lines).float() / 32, augment.uniform(200, 0.7, 1.8))
    ink = pictures > 0.1
    longest = torch.maximum(ink.any(1).sum(1), ink.any(2).sum(1))
    assert longest.float().mean() == pytest.approx(20, abs=1) and longest.max() <= 22
    place = torch.arange(28.0)
    for dim in (1, 2):
        middle = (pictures.sum(dim) @ place) / pictures.sum((1, 2))
        assert (middle - 14).abs().max() <= 0.6


def test_the_network_reads_the_styles_of_every_digit_and_turns_the_rest_away():
    torch.manual_seed(0)
    rng = np.random.default_rng(5)
    model = load_model()
    digits, labels = glyphs.digit_styles(600, rng)
    lines = torch.cat([digits, nothing.non_digits(300, rng)])
    fields = augment.warp_field(augment.fields(lines).float() / 32, 0.5)
    with torch.inference_mode():
        p, not_a_digit = model.answers(augment.draw(fields, augment.uniform(900, 0.8, 1.7))[:, None])
    right = p[:600].argmax(1) == labels
    assert right.float().mean() > 0.97
    assert min(right[labels == d].float().mean() for d in range(10)) > 0.85
    assert (not_a_digit[:600] <= 0.5).float().mean() > 0.97
    assert area_under_roc(not_a_digit[600:].numpy(), not_a_digit[:600].numpy()) > 0.98


def test_added_strokes_leave_the_digit_below_them():
    rng = np.random.default_rng(0)
    lines = torch.from_numpy(np.stack([glyphs.rasterise(glyphs.DIGITS[d][0]) for d in (0, 1, 7)]))
    added = glyphs.add_strokes(lines, torch.tensor([0, 1, 7]), rng)
    assert (added & lines).eq(lines).all()
    assert (added.sum((1, 2)) > lines.sum((1, 2))).all()


def test_zeros_get_a_slash_ones_a_flag_or_a_foot_and_sevens_a_crossbar():
    rng, n = np.random.default_rng(0), 200
    for digit in (0, 1, 7):
        line = torch.from_numpy(glyphs.rasterise(glyphs.DIGITS[digit][0]).copy())
        rows, columns = line.any(1).nonzero()[:, 0], line.any(0).nonzero()[:, 0]
        top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
        new = glyphs.add_strokes(line.expand(n, 56, 56), torch.full((n,), digit), rng) & ~line
        share = lambda part: float(part.flatten(1).any(1).float().mean())  # noqa: E731
        if digit == 0:
            y, x = (top + bottom) // 2, (left + right) // 2
            assert share(new[:, y - 2 : y + 3, x - 2 : x + 3]) > 0.95
        elif digit == 1:
            assert share(new[:, top + 5 : bottom - 5, :left]) == pytest.approx(0.8, abs=0.08)
            assert share(new[:, bottom - 5 :, right + 1 :]) == pytest.approx(0.5, abs=0.1)
        else:
            assert share(new[:, : top + 8]) == share(new[:, bottom - 6 :]) == 0
            stem = line[(top + bottom) // 2].nonzero().float().mean()
            assert share(new[:, :, : int(stem)]) == share(new[:, :, int(stem) + 1 :]) == 1


def test_templates_are_read_as_they_are_written_and_a_line_that_is_none_is_named(tmp_path):
    path = tmp_path / "templates.txt"
    path.write_text("# Two sections.\n\n[4]\n20 15 85 / 60 69\n[letters]\n10 19\n")
    sections = glyphs.read_templates(path)
    assert list(sections) == ["4", "letters"]
    strokes = [[[2, 0], [1, 5], [8, 5]], [[6, 0], [6, 9]]]
    assert [stroke.tolist() for stroke in sections["4"][0]] == strokes
    for line in ("20 155", "20 1", "20 x5"):
        path.write_text(f"[4]\n{line}\n")
        with pytest.raises(ValueError, match=rf"templates\.txt, line 2: '{line}'"):
            glyphs.read_templates(path)


def test_a_spiral_has_more_turns_than_a_six():
    rng = np.random.default_rng(0)
    strokes = [nothing.scribble(rng)[0] for _ in range(1000)]
    spirals = [s for s in strokes if len(s) == 80 and (np.diff(np.linalg.norm(s, axis=1)) > 0).all()]
    assert len(spirals) > 100
    for stroke in spirals:
        turns = np.ptp(np.unwrap(np.arctan2(stroke[:, 1], stroke[:, 0]))) / (2 * np.pi)
        assert 1.79 < turns < 4.51


def test_what_is_no_digit_comes_in_many_kinds_none_of_them_empty():
    rng = np.random.default_rng(0)
    lines = torch.cat([nothing.non_digits(200, rng), nothing.icons()[::20]])
    assert lines.shape[1:] == (56, 56) and lines.dtype == torch.bool
    assert lines.flatten(1).any(1).all()
    assert len({line.numpy().tobytes() for line in lines}) == len(lines)
    for strokes in nothing.alphabets():
        points = np.vstack(strokes)
        assert points.min() >= 0 and points.max() == pytest.approx(9)


def test_a_digit_turned_over_is_the_same_line_and_a_zero_is_left_alone():
    lines = torch.from_numpy(np.stack([glyphs.rasterise(glyphs.DIGITS[d][0]) for d in range(10)]))
    turned = nothing.turned_over(lines, torch.arange(10))
    of = dict(enumerate(lines.sum((1, 2)).tolist()))
    assert turned.sum((1, 2)).tolist() == [of[d] for d in (2, 3, 4, 5, 7, 3, 4, 6, 7, 9, 4, 7, 3, 4, 7)]
    assert not (turned[:, None] == lines[None]).all((2, 3)).any()
