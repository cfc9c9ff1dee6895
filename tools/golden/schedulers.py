"""Writes sampler/testdata/schedulers.json: what diffusers' schedulers do.

    python3 tools/golden/schedulers.py > sampler/testdata/schedulers.json

Needs diffusers and torch. Every run feeds a scheduler fixed outputs and fixed
noise and records what it would show the network at each call, and the sample.
The response to the latent alone and to each output and noise alone is recorded
too: these are the transport scalars of freeze "solver".
"""

import json
import math

import diffusers
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from diffusers.schedulers import scheduling_ddpm

LINEAR = {"beta_start": 0.0001, "beta_end": 0.02}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
V = {"prediction_type": "v_prediction"}
X0 = {"prediction_type": "sample"}
TRAILING = {"timestep_spacing": "trailing"}
LINSPACE = {"timestep_spacing": "linspace"}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
KARRAS = {"use_karras_sigmas": True}
SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
ZERO_SNR = {"rescale_betas_zero_snr": True}

CLASSES = {
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
    "euler": EulerDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "dpmpp-2m": DPMSolverMultistepScheduler,
}
GRIDS = [
    (STABLE | LEADING, 10),
    (STABLE | TRAILING | V, 7),
    (STABLE | LINSPACE | X0, 12),
    (COSINE | TRAILING | V, 16),
    (LINEAR | TRAILING | X0, 1),
    (LINEAR | LINSPACE, 2),
]
SIGMA_GRIDS = GRIDS + [
    (STABLE | LEADING | KARRAS, 10),
    (STABLE | TRAILING | V | KARRAS, 8),
    (COSINE | LEADING | V | KARRAS, 9),
]
ENDS = [
    (STABLE | LEADING | SIGMA_MIN, 10),
    (STABLE | LINSPACE | V | SIGMA_MIN, 17),
    (STABLE | TRAILING | V | ZERO_SNR, 9),
]
CASES = (
    [("ddim", eta, *grid) for eta in (0.4, 1.0) for grid in GRIDS]
    + [("ddim", 1.0, STABLE | LEADING | {"set_alpha_to_one": False}, 6)]
    + [("ddpm", 0.0, *grid) for grid in GRIDS]
    + [("ddpm", 0.0, STABLE | TRAILING | V | ZERO_SNR, 9)]
    + [("euler", 0.0, *grid) for grid in SIGMA_GRIDS + ENDS]
    + [("heun", 0.0, *grid) for grid in SIGMA_GRIDS]
    # Without Karras on a cosine schedule: diffusers cuts its timesteps off, and
    # where one is whole but for float32's rounding, off by one.
    + [("dpmpp-2m", 0.0, *grid) for grid in SIGMA_GRIDS[:-1] + ENDS]
    + [("dpmpp-2m", 0.0, STABLE | LEADING | SIGMA_MIN | {"lower_order_final": False}, 6)]
)


def one(value):
    return torch.tensor([[value]], dtype=torch.float64)


def rollout(solver, eta, config, steps, latent, output, noise):
    """Returns timesteps, what the network is shown at each, and the sample."""
    unclipped = {} if solver in ("euler", "dpmpp-2m") else {"clip_sample": False}
    scheduler = CLASSES[solver](**config, **unclipped)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        # Else a first timestep that occurs twice, as Karras' can once rounded,
        # is taken for its second occurrence.
        scheduler.set_begin_index(0)
    if hasattr(scheduler, "sigmas"):
        # The values stay float32, the arithmetic need not: Heun's correction
        # multiplies the rounding of a first sigma of 2e4 by 1e4.
        scheduler.sigmas = scheduler.sigmas.double()
    x = one(latent) * float(scheduler.init_noise_sigma)
    inputs = []
    for i, t in enumerate(scheduler.timesteps):
        inputs.append(scheduler.scale_model_input(x, t).item())
        more = {}
        if solver == "ddim":
            more = {"eta": eta, "variance_noise": one(noise(i)) if eta else None}
        scheduling_ddpm.randn_tensor = lambda *_, **__: one(noise(i))
        x = scheduler.step(one(output(i)), t, x, **more).prev_sample
    return [float(t) for t in scheduler.timesteps], inputs, x.item()


def run(solver, eta, config, steps):
    sample = lambda *signals: rollout(solver, eta, config, steps, *signals)[2]
    none = lambda _: 0.0
    only = lambda k: lambda i: float(i == k)
    timesteps, inputs, result = rollout(
        solver, eta, config, steps, 0.7, lambda i: math.sin(1.3 * i + 0.5), lambda i: math.cos(1.7 * i)
    )
    calls = range(len(timesteps))
    return {
        "solver": solver,
        "eta": eta,
        "config": dict(config, clip_sample=False),
        "steps": steps,
        "timesteps": timesteps,
        "inputs": inputs,
        "sample": result,
        "carry": sample(1.0, none, none),
        "weights": [sample(0.0, only(k), none) for k in calls],
        "noises": [sample(0.0, none, only(k)) for k in calls],
    }


print(json.dumps({
    "diffusers": diffusers.__version__,
    "torch": torch.__version__,
    # As save_pretrained writes them, defaults and all.
    "configs": [scheduler().to_json_string() for scheduler in CLASSES.values()],
    "runs": [run(*case) for case in CASES],
}))
