"""A bundle of the published layout, with small networks of random weights, as the generator."""

import hashlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet

from realdeal.bundle import files, networks, sampling
from realdeal.data.volumes import Volume, load_volume
from realdeal.errors import InputError
from realdeal.refinement.external import place
from realdeal.study import Study

TINY = Path(__file__).with_name("tiny.yaml")
SHAPE = [32, 64, 32]  # of volumes; the latents are an eighth

# The published configuration, but for the channels.
PUBLISHED = {
    "imports": ["$import torch"],
    "load_old": 1,
    "conditioning": "$torch.tensor([[@gender, @age, @ventricular_vol, @brain_vol]])",
    "autoencoder_def": {
        "_target_": "monai.networks.nets.AutoencoderKL",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 3,
        "channels": [64, 128, 128, 128],
        "num_res_blocks": 2,
        "norm_num_groups": 32,
        "norm_eps": 1e-06,
        "attention_levels": [False, False, False, False],
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": False,
    },
    "diffusion_def": {
        "_target_": "monai.networks.nets.DiffusionModelUNet",
        "spatial_dims": 3,
        "in_channels": 7,
        "out_channels": 3,
        "channels": [256, 512, 768],
        "num_res_blocks": 2,
        "attention_levels": [False, True, True],
        "norm_num_groups": 32,
        "norm_eps": 1e-06,
        "resblock_updown": True,
        "num_head_channels": [0, 512, 768],
        "with_conditioning": True,
        "transformer_num_layers": 1,
        "cross_attention_dim": 4,
        "upcast_attention": True,
        "use_flash_attention": False,
    },
    "scheduler": {
        "_target_": "monai.networks.schedulers.DDIMScheduler",
        "_requires_": ["@load_diffusion", "@load_autoencoder"],
        "beta_start": 0.0015,
        "beta_end": 0.0205,
        "num_train_timesteps": 1000,
        "schedule": "scaled_linear_beta",
        "clip_sample": False,
    },
    "sampler": {"_target_": "scripts.sampler.Sampler", "_requires_": "@set_timesteps"},
}
SMALL = {
    "autoencoder_def": {"channels": [4, 4, 4, 4], "norm_num_groups": 2},
    "diffusion_def": {
        "channels": [4, 8, 12],
        "num_head_channels": [0, 8, 12],
        "norm_num_groups": 2,
    },
}
SETTINGS = {"sampler": "ddim", "steps": 2, "spacing": "uniform"}
ASKED = {"sex": "M", "age": 53.5, "ventricular_volume": 50000.0, "brain_volume": 1500000.0}


def configuration(**changes):
    """The configuration with small networks; `changes` are further keys of its sections."""
    config = json.loads(json.dumps(PUBLISHED))
    for section, keys in [*SMALL.items(), *changes.items()]:
        config[section] |= keys
    return config


def arguments(section):
    return {key: value for key, value in section.items() if not key.startswith("_")}


def random_networks():
    config = configuration()
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(**arguments(config["autoencoder_def"]))
    diffusion = DiffusionModelUNet(**arguments(config["diffusion_def"]))
    for network in (autoencoder, diffusion):
        for parameter in network.parameters():  # MONAI begins with a last layer of zeros
            parameter.data = 0.1 * torch.randn_like(parameter)
    return autoencoder.eval(), diffusion.eval()


def of_old(name):
    """What GenerativeModels calls a tensor, from its source."""
    if "transformer_blocks" in name:
        return name.replace("out_proj", "to_out.0")
    return name.replace("postconv", "conv")


def write_bundle(folder, old=True, config=None, digests=False):
    """Write a bundle with the names of the published files; returns its two networks."""
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / files.CONFIG).write_text(json.dumps(config or configuration()))
    output = {"outputs": {"pred": {"spatial_shape": SHAPE}}}
    (folder / files.METADATA).write_text(json.dumps({"network_data_format": output}))
    both = random_networks()
    entries = []
    for name, network in zip((files.AUTOENCODER, files.DIFFUSION), both, strict=True):
        tensors = network.state_dict()
        if old:
            tensors = {of_old(key): value for key, value in tensors.items()}
        torch.save(tensors, folder / name)
        digest = hashlib.md5((folder / name).read_bytes()).hexdigest()
        entries.append({"path": name, "url": "", "hash_val": digest, "hash_type": "md5"})
    if digests:
        (folder / files.DIGESTS).write_text(yaml.safe_dump({"large_files": entries}))
    return both


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, digests=True)
    return folder


# Networks


@pytest.mark.parametrize("old", [True, False], ids=["generative", "monai"])
def test_weights_of_both_eras(tmp_path, old):
    both = write_bundle(tmp_path, old=old, digests=True)
    loaded = networks.load_bundle(tmp_path)
    assert loaded.latent_shape == (3, 4, 8, 4)
    for network, expected in zip((loaded.autoencoder, loaded.diffusion), both, strict=True):
        found = network.state_dict()
        assert found.keys() == expected.state_dict().keys()
        for name, value in expected.state_dict().items():
            assert torch.equal(found[name], value), name
    renamed = sum(of_old(name) != name for name in both[1].state_dict())
    assert renamed == 44  # two projections, weight and bias, in each of 11 attention blocks


def test_a_network_of_generativemodels_gives_the_same(tmp_path):
    """Against the package that the weights come from; pip install --no-deps monai-generative."""
    nets = pytest.importorskip("generative.networks.nets")
    config = configuration()
    torch.manual_seed(1)
    made = []
    for section, kind in (
        ("autoencoder_def", nets.AutoencoderKL),
        ("diffusion_def", nets.DiffusionModelUNet),
    ):
        options = arguments(config[section])
        options["num_channels"] = options.pop("channels")
        made.append(kind(**options).eval())
        for parameter in made[-1].parameters():
            parameter.data = 0.2 * torch.randn_like(parameter)
    write_bundle(tmp_path)
    for network, name in zip(made, (files.AUTOENCODER, files.DIFFUSION), strict=True):
        torch.save(network.state_dict(), tmp_path / name)
    loaded = networks.load_bundle(tmp_path)
    z, t, context = torch.randn(1, 3, 2, 4, 2), torch.tensor([500]), torch.rand(1, 1, 4)
    x = torch.randn(1, 7, 4, 8, 4)
    with torch.no_grad():
        torch.testing.assert_close(loaded.autoencoder.decode(z), made[0].decode(z))
        torch.testing.assert_close(
            loaded.diffusion(x, timesteps=t, context=context),
            made[1](x, timesteps=t, context=context),
        )


def test_the_published_definitions_have_the_size_of_the_published_files():
    """55.1 MB and 2.21 GB, in float32."""
    with torch.device("meta"):
        sizes = [
            4
            * sum(
                parameter.numel()
                for parameter in kind(**arguments(PUBLISHED[section])).parameters()
            )
            for kind, section in (
                (AutoencoderKL, "autoencoder_def"),
                (DiffusionModelUNet, "diffusion_def"),
            )
        ]
    assert sizes[0] == pytest.approx(55.1e6, rel=0.005)
    assert sizes[1] == pytest.approx(2.21e9, rel=0.005)


class Payload:
    """A pickle that runs a command when it is opened."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("container", ["zip", "pickle"])
def test_a_pickle_runs_nothing(tmp_path, container):
    write_bundle(tmp_path)
    mark = tmp_path / "was run"
    if container == "zip":
        torch.save({"weight": Payload(mark)}, tmp_path / files.DIFFUSION)
    else:
        (tmp_path / files.DIFFUSION).write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(InputError, match="model.pt: is no readable file of plain tensors"):
        networks.load_bundle(tmp_path)
    assert not mark.exists()
    if container == "zip":  # it is one: opened as an object it does run
        torch.load(tmp_path / files.DIFFUSION, weights_only=False)
        assert mark.exists()


@pytest.mark.parametrize(
    ("section", "keys", "message"),
    [
        (
            "autoencoder_def",
            {"_target_": "subprocess.Popen"},
            "autoencoder_def is a 'subprocess.Po",
        ),
        ("diffusion_def", {"_target_": "monai.networks.nets.UNet"}, "diffusion_def is a 'monai"),
        ("scheduler", {"_target_": "monai.networks.nets.AutoencoderKL"}, "only monai.networks.sch"),
        ("scheduler", {"_target_": None}, "scheduler is a None"),
        ("scheduler", {"beta_end": "$__import__('os').getpid()"}, "expressions are not run"),
        ("diffusion_def", {"channels": [4, "@channels", 12]}, "diffusion_def.channels is no plain"),
        ("diffusion_def", {"channels": {"_target_": "os.getcwd"}}, "is no plain value"),
        ("diffusion_def", {"chanels": [4]}, "diffusion_def cannot be built"),
        ("diffusion_def", {"in_channels": 3}, "does not take the autoencoder's latents"),
        ("scheduler", {"prediction_type": "sample"}, "prediction_type must be epsilon"),
    ],
)
def test_configurations_that_are_refused(tmp_path, section, keys, message):
    write_bundle(tmp_path, config=configuration(**{section: keys}))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        networks.load_bundle(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / files.CONFIG))
    assert "\n" not in str(caught.value)


def test_weights_that_are_refused(tmp_path):
    *_, diffusion = write_bundle(tmp_path)
    path = tmp_path / files.DIFFUSION
    old = {of_old(name): value for name, value in diffusion.state_dict().items()}
    lost, renamed = "conv_in.conv.weight", "out.2.conv.bias"
    for tensors, message in (
        ({k: v for k, v in old.items() if k != lost}, "527 for 528"),
        ({k: v for k, v in old.items() if "to_out" not in k}, "does not fit the network"),
        (old | {"module.extra": torch.zeros(1)}, "such as module.extra"),
        ({f"x.{k}" if k == renamed else k: v for k, v in old.items()}, f"such as x.{renamed}"),
        (old | {lost: torch.zeros(2)}, "does not fit the network"),
        (old | {"step": 3}, "other things than tensors"),
        ([1, 2], "other things than tensors"),
    ):
        torch.save(tensors, path)
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            networks.load_bundle(tmp_path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    path.write_text("version of a pointer to large files")
    with pytest.raises(InputError, match="model.pt: is no readable file"):
        networks.load_bundle(tmp_path)


def test_digests_are_checked(tmp_path):
    write_bundle(tmp_path, digests=True)
    path = tmp_path / files.AUTOENCODER
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match="autoencoder.pt: its md5 is .*, not .*; fetch it again"):
        networks.load_bundle(tmp_path)
    (tmp_path / files.DIGESTS).write_text("large_files: nothing")
    with pytest.raises(InputError, match="large_files.yml: is not the list"):
        networks.load_bundle(tmp_path)


def test_the_metadata_tell_the_shape(tmp_path):
    write_bundle(tmp_path)
    for content, message in (({}, "tells no"), ([32, 40, 32], "no multiples of 32")):
        if content:
            content = {"network_data_format": {"outputs": {"pred": {"spatial_shape": content}}}}
        (tmp_path / files.METADATA).write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            networks.load_bundle(tmp_path)


# Sampling


def test_covariates_by_hand():
    assert sampling.encode(ASKED).tolist() == [
        pytest.approx([1, 9.5 / 38, 43004.32 / 164379.32, 355760 / 649670])
    ]
    drawn = [sampling.draw_covariates(0, f"synthetic-{number:03d}") for number in range(200)]
    assert drawn[:5] == [sampling.draw_covariates(0, f"synthetic-{n:03d}") for n in range(5)]
    scaled = torch.cat([sampling.encode(asked) for asked in drawn])
    assert scaled.min() >= 0 and scaled.max() <= 1
    assert set(scaled[:, 0].tolist()) == {0.0, 1.0}
    assert all(0.42 < mean < 0.58 for mean in scaled.mean(0).tolist())


def test_one_step_by_hand(bundle):
    """Noise level, seven input channels, one token and the DDIM step, written out anew."""
    loaded = networks.load_bundle(bundle)
    calls = []

    class Spy(torch.nn.Module):
        def forward(self, x, timesteps, context):
            calls.append((x, timesteps, context))
            return loaded.diffusion(x, timesteps=timesteps, context=context)

    spied = loaded._replace(diffusion=Spy())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        volume = sampling.generate(spied, ASKED, generator, SETTINGS)
    assert volume.shape == tuple(SHAPE) and volume.dtype == np.float32
    assert [int(t) for _, t, _ in calls] == [999, 0]
    # gender, age, ventricles, brain
    told = [1.0, 0.25, (50000 - 6995.68) / (171375 - 6995.68), 355760 / 649670]
    noise = torch.randn((1, 3, 4, 8, 4), generator=torch.Generator().manual_seed(0))
    for x, _, context in calls:
        assert x.shape == (1, 7, 4, 8, 4) and context.shape == (1, 1, 4)
        torch.testing.assert_close(context.flatten(), torch.tensor(told))
        for channel, value in enumerate(told, 3):
            assert torch.all((x[0, channel] - value).abs() < 1e-6)
    assert torch.equal(calls[0][0][:, :3], noise)
    # From t = 999 to t = 0, then to no noise at all, with the noise that the network predicts.
    betas = np.linspace(0.0015**0.5, 0.0205**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    x = noise
    with torch.no_grad():
        for t, following in ((999, alphas[0]), (0, 1.0)):
            planes = torch.tensor(told).view(1, 4, 1, 1, 1).expand(1, 4, 4, 8, 4)
            epsilon = loaded.diffusion(
                torch.cat([x, planes], 1),
                timesteps=torch.tensor([t]),
                context=torch.tensor([[told]]),
            )
            clean = (x - (1 - alphas[t]) ** 0.5 * epsilon) / alphas[t] ** 0.5
            x = (following**0.5 * clean + (1 - following) ** 0.5 * epsilon).float()
            if t == 999:
                torch.testing.assert_close(calls[1][0][:, :3], x, rtol=1e-4, atol=1e-4)
        expected = loaded.autoencoder.decode(x)[0, 0].numpy()
    np.testing.assert_allclose(volume, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("covariate", "value"),
    [("sex", "F"), ("age", 80.0), ("ventricular_volume", 160000.0), ("brain_volume", 1200000.0)],
)
def test_no_covariate_is_ignored(bundle, covariate, value):
    loaded = networks.load_bundle(bundle)
    volumes = []
    with torch.no_grad():
        for asked in (ASKED, ASKED, ASKED | {covariate: value}):
            generator = torch.Generator().manual_seed(0)
            volumes.append(sampling.generate(loaded, asked, generator, SETTINGS))
    np.testing.assert_array_equal(volumes[0], volumes[1])
    assert np.abs(volumes[2] - volumes[0]).max() > 1e-3


def test_where_the_volumes_lie():
    """A voxel of the network is found again at its place in the world, right and left apart."""
    data = np.zeros((160, 224, 160), np.float32)
    data[40:44, 100:104, 60:64] = 1.0  # its first axis runs to the left
    volume = sampling.to_study(data)
    assert set(np.unique(volume.data)) == {-1, 1}
    assert np.diag(volume.affine).tolist() == [1, 1, 1, 1]
    # The demonstration's affine is that of the grid of which the networks know a part.
    whole = [[-1, 0, 0, 96.48149872], [0, 1, 0, -141.47715759], [0, 0, 1, -156.55375671]]
    centre = np.array(whole) @ [41.5 + 16, 101.5 + 16, 61.5 + 96, 1]
    grid = np.diag([2.0, 2, 2, 1])
    grid[:3, 3] = [-90, -126, -72]
    placed = place("x", volume, Volume(np.zeros((91, 109, 91)), grid))
    found = np.argwhere(placed > 0).mean(0) @ grid[:3, :3] + grid[:3, 3]
    np.testing.assert_allclose(found, centre, atol=1.0)
    assert found[0] > 0  # right
    # Beyond 0 and 1 nothing is asked of the refiner.
    assert np.abs(sampling.to_study(3 * data - 1).data).max() == 1


def test_files_of_a_study(bundle, tmp_path):
    from realdeal.data.volumes import save_volume

    study = Study(tmp_path)
    like = tmp_path / "like.nii.gz"
    affine = np.diag([5.0, 5, 5, 1])
    save_volume(like, np.linspace(-1, 1, np.prod(SHAPE)).reshape(SHAPE), affine)
    names = ["synthetic-001", "synthetic-002"]
    sampling.sample(study, bundle, names, SETTINGS, 0, like)
    made = [load_volume(study.volume("synthetic", name)) for name in names]
    np.testing.assert_array_equal(made[0].affine, affine)
    assert np.abs(made[0].data - made[1].data).max() > 0.01
    sampling.sample(study, bundle, names[1:], SETTINGS, 0, like)  # whichever job makes it
    again = load_volume(study.volume("synthetic", names[1]))
    np.testing.assert_array_equal(again.data, made[1].data)
    told = json.loads((tmp_path / "volumes/synthetic/synthetic-001.json").read_text())
    assert told == sampling.draw_covariates(0, "synthetic-001") and set(told) == set(ASKED)


# The workflow


def own(tmp_path, **sections):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def test_no_ldm_is_trained(snakemake, tmp_path, bundle):
    config = own(tmp_path, study="b", ldm={"source": "monai-bundle", "bundle": str(bundle)})
    done = snakemake("all", "-n", "--cores", 2, "--configfile", config)
    assert done.returncode == 0, done.stdout
    for rule in ("sample_1", "refine_synthetic_1", "train_autoencoder", "train_refiner", "report"):
        assert f"\n{rule} " in done.stdout, rule
    assert "train_ldm" not in done.stdout


def test_mistakes_are_one_line(snakemake, tmp_path, bundle):
    broken = tmp_path / "broken"
    write_bundle(broken)
    (broken / files.DIFFUSION).unlink()
    conditioning = {"covariates": [{"name": "age", "range": [0, 1]}], "enter": "both"}
    good = {"source": "monai-bundle", "bundle": str(bundle)}
    base = {"ldm": {"conditioning": None}, "sampling": {"coarse": "ldm"}}
    for ldm, coarse, message in (
        ({"bundle": None}, "ldm", "ldm.bundle: is not set"),
        ({"bundle": str(tmp_path / "no")}, "ldm", "no is no folder"),
        ({"bundle": str(broken)}, "ldm", "models/model.pt is missing"),
        ({"conditioning": conditioning}, "ldm", "ldm.conditioning: is for the LDM that a study"),
        ({}, "external", "choose one"),
    ):
        config = {"ldm": base["ldm"] | good | ldm, "sampling": {"coarse": coarse}}
        with pytest.raises(InputError, match=message):
            files.bundle_files(config)
    names = [Path(path).name for path in files.bundle_files(base | {"ldm": base["ldm"] | good})]
    assert names[-1] == files.DIGESTS and len(names) == 5
    config = own(tmp_path, ldm={"source": "monai-bundle"})
    done = snakemake("-n", "--cores", 2, "--configfile", config)
    assert done.returncode == 1
    assert "ldm.bundle: is not set" in done.stdout and "Traceback" not in done.stdout


@pytest.mark.slow
def test_a_study_is_sampled_and_refined(snakemake, tmp_path, bundle):
    config = own(
        tmp_path,
        data={"demo": {"subjects": 4}},
        preprocessing={"shape": SHAPE},
        refiner={"stride": 16, "training": {"steps": 2}},
        ldm={"source": "monai-bundle", "bundle": str(bundle)},
        sampling={"volumes": 2, "ldm": {"steps": 3}},
    )
    root = tmp_path / "results/tiny"
    names = ("synthetic-001", "synthetic-002")
    targets = [f"results/tiny/volumes/synthetic-refined/{name}.nii.gz" for name in names]
    options = ("--cores", 1, "--show-failed-logs", "--configfile", TINY, config)
    done = snakemake(*targets, *options, directory=tmp_path, timeout=840)
    assert done.returncode == 0, done.stdout[-8000:]
    assert not (root / "models/ldm.safetensors").exists()
    study = Study(root)
    for name in names:
        coarse = load_volume(study.volume("synthetic", name))
        refined = load_volume(study.volume("synthetic-refined", name))
        assert coarse.data.shape == refined.data.shape == tuple(SHAPE)
        np.testing.assert_allclose(coarse.affine, refined.affine)
        assert np.abs(coarse.data - refined.data).max() > 1e-3
        told = json.loads((root / f"volumes/synthetic/{name}.json").read_text())
        assert told == sampling.draw_covariates(0, name)
