"""AlexNet weights, LPIPS and patch features."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from realdeal.errors import InputError
from realdeal.metrics import features, perceptual, weights

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def alexnet():
    return weights.alexnet_weights("resources/weights")


@pytest.fixture(scope="session")
def model(alexnet):
    return perceptual.load_lpips(alexnet)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (2, 5, 64, 64)).astype(np.float32)


def test_lpips_is_that_of_the_package(alexnet, model, pair):
    lpips = weights.import_lpips()
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)  # its own heads
    trunk = weights.load_file(alexnet)
    for name, parameter in reference.net.named_parameters():
        parameter.data = trunk["features." + name.split(".", 1)[1]]
    with torch.no_grad():
        expected = reference(*(torch.tensor(p)[:, None].repeat(1, 3, 1, 1) for p in pair))
    distances = perceptual.lpips_distance(model, *pair, batch=2)
    np.testing.assert_allclose(distances, expected.flatten(), atol=1e-4)
    assert distances.min() > 0.01


def test_lpips_of_equal_patches_is_zero_and_grows_with_noise(model, pair):
    flat = np.zeros((5, 64, 64), np.float32)
    assert perceptual.lpips_distance(model, pair[0], pair[0]).max() == 0
    assert perceptual.lpips_distance(model, flat, flat).max() == 0
    small, large = (perceptual.lpips_distance(model, flat, s * pair[1]) for s in (0.05, 0.3))
    assert (small < large).all()


def test_trunk_is_the_published_one(alexnet):
    """The first filter row, as printed in many an account of torchvision's AlexNet."""
    row = weights.load_file(alexnet)["features.0.weight"][0, 0, 0]
    np.testing.assert_allclose(row[:3], [0.11864, 0.094069, 0.095435], atol=1e-5)


def test_altered_or_damaged_weights_are_refused(alexnet, tmp_path):
    path = tmp_path / "alexnet.safetensors"
    tensors = weights.load_file(alexnet)
    tensors["features.0.bias"] = tensors["features.0.bias"] + 1e-6
    weights.save_file(tensors, path)
    with pytest.raises(InputError, match="not the published AlexNet"):
        weights.alexnet_weights(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        weights.alexnet_weights(tmp_path)


def test_no_route_is_an_error_not_random_weights(monkeypatch, tmp_path):
    def closed():
        raise OSError("no network")

    monkeypatch.setattr(weights, "_from_torchvision", closed)
    monkeypatch.setattr(weights, "_from_package", closed)
    with pytest.raises(InputError, match="no network"):
        weights.alexnet_weights(tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_weights_from_a_route_are_not_kept(monkeypatch, tmp_path):
    random = {"features.0.weight": torch.zeros(64, 3, 11, 11)}
    monkeypatch.setattr(weights, "_from_torchvision", lambda: random)
    monkeypatch.setattr(weights, "_from_package", lambda: random)
    with pytest.raises(InputError, match="differ from the published"):
        weights.alexnet_weights(tmp_path)


def test_unpickler_admits_numpy_only(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("called",)

    for content, refused in ((np.arange(3, dtype="f4"), False), (Evil(), True)):
        path = tmp_path / "pickle"
        path.write_bytes(pickle.dumps(content, protocol=3))
        with open(path, "rb") as file:
            if refused:
                with pytest.raises(pickle.UnpicklingError, match="refused"):
                    weights._NumpyUnpickler(file).load()
            else:
                np.testing.assert_array_equal(weights._NumpyUnpickler(file).load(), content)


def test_torchvision_is_left_alone_where_it_imports(monkeypatch):
    def forbidden(*_):
        raise AssertionError("declared an operator without need")

    weights.import_torchvision()
    monkeypatch.setattr(torch.library, "define", forbidden)
    assert weights.import_torchvision() is sys.modules["torchvision"]


def test_features_are_the_pooled_last_convolution(alexnet, model, pair):
    extractor = features.load_extractor("alexnet", alexnet)
    found = features.patch_features(extractor, pair[0], batch=2)
    assert found.shape == (5, 256) and found.dtype == np.float32
    from torchvision.models import alexnet as network

    reference = network(weights=None).features[:12]
    reference.load_state_dict(
        {n.split(".", 1)[1]: t for n, t in weights.load_file(alexnet).items()}
    )
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    images = (torch.tensor(pair[0])[:, None].repeat(1, 3, 1, 1) + 1) / 2
    with torch.no_grad():
        expected = reference((images - mean) / std).mean((2, 3))
    # LPIPS rounds the ImageNet mean and standard deviation to three digits.
    np.testing.assert_allclose(found, expected, atol=0.02)
    small = features.patch_features(extractor, pair[0][:, :32, :32])
    assert np.isfinite(small).all() and small.std() > 0


@pytest.mark.parametrize("shape", [(3, 31, 64), (64, 64)])
def test_bad_patches(model, shape):
    with pytest.raises(InputError, match="at least 32"):
        perceptual.lpips_distance(model, np.zeros(shape), np.zeros(shape))


def test_nan_shapes_and_names(alexnet, model, pair):
    broken = pair[0].copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        perceptual.lpips_distance(model, broken, pair[1])
    with pytest.raises(InputError, match="differ in shape"):
        perceptual.lpips_distance(model, pair[0], pair[1][:2])
    with pytest.raises(InputError, match="none of"):
        features.load_extractor("vgg", alexnet)


def test_inception_without_weights_names_the_remedy(monkeypatch, alexnet):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(InputError, match="to alexnet"):
        features.load_extractor("inception", alexnet)


def test_import_needs_no_torchvision_yet():
    """Importing the module must not import lpips or torchvision: other jobs have neither."""
    code = "import realdeal.metrics.weights, sys; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "src"})
