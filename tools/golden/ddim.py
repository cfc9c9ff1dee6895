"""Writes sampler/testdata/ddim.json: what diffusers' DDIMScheduler does.

    python3 tools/golden/ddim.py > sampler/testdata/ddim.json

Needs diffusers and torch. A step is linear in the state and the network
output, so stepping (1, 0) and (0, 1) gives its two coefficients; the scheduler
holds its schedule in float32, the steps are taken in float64.
"""

import json

import diffusers
import torch
from diffusers import DDIMScheduler

COSINE = {"beta_schedule": "squaredcos_cap_v2"}
STABLE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
CASES = [
    (dict(STABLE), 50),
    (dict(STABLE, prediction_type="v_prediction"), 7),
    (dict(STABLE, prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True), 30),
    (dict(COSINE, prediction_type="v_prediction"), 20),
    (dict(COSINE, prediction_type="sample", timestep_spacing="linspace"), 12),
    (dict(COSINE, timestep_spacing="trailing"), 16),
    ({}, 1),
    ({"timestep_spacing": "trailing"}, 1),
    ({"num_train_timesteps": 100, "timestep_spacing": "linspace"}, 9),
    ({"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4, "prediction_type": "v_prediction"}, 4),
]


def coefficient(scheduler, timestep, output, sample):
    one = lambda value: torch.tensor([value], dtype=torch.float64)
    return scheduler.step(one(output), timestep, one(sample)).prev_sample.item()


def run(config, steps):
    scheduler = DDIMScheduler(**config, clip_sample=False)
    scheduler.set_timesteps(steps)
    timesteps = [int(t) for t in scheduler.timesteps]
    return {
        "config": dict(config, clip_sample=False),
        "timesteps": timesteps,
        "state": [coefficient(scheduler, t, 0.0, 1.0) for t in timesteps],
        "output": [coefficient(scheduler, t, 1.0, 0.0) for t in timesteps],
        "alpha_bars": [scheduler.alphas_cumprod[t].item() for t in timesteps],
    }


def spacing_sums(spacing):
    """sum (i+1)*timestep[i] for every number of steps.

    With trailing spacing numpy's arange sometimes gives one value too many, a
    timestep of -1 (first at 61 steps). That one is left out.
    """
    scheduler = DDIMScheduler(timestep_spacing=spacing)
    sums = []
    for steps in range(1, 1001):
        scheduler.set_timesteps(steps)
        sums.append(sum((i + 1) * int(t) for i, t in enumerate(scheduler.timesteps[:steps])))
    return sums


print(json.dumps({
    "diffusers": diffusers.__version__,
    "torch": torch.__version__,
    "runs": [run(*case) for case in CASES],
    "spacing_sums": {s: spacing_sums(s) for s in ("leading", "linspace", "trailing")},
}))
