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
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import scheduling_ddpm, scheduling_lcm

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
    "lcm": LCMScheduler,
    "flow-euler": FlowMatchEulerDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
}
# The same solvers for networks inside EDM's preconditioning.
EDM_CLASSES = {"euler": EDMEulerScheduler, "dpmpp-2m": EDMDPMSolverMultistepScheduler}
INVERSE_CLASSES = {"ddim": DDIMInverseScheduler}
# Every class whose config is read.
CONFIGS = [*CLASSES.values(), *EDM_CLASSES.values()]
CLIPPING = (DDIMInverseScheduler, DDIMScheduler, DDPMScheduler, HeunDiscreteScheduler, LCMScheduler)
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
ORIGINAL = {"original_inference_steps": 40}
LCM_GRIDS = [
    (STABLE, 4),
    (STABLE | V, 1),
    (STABLE | X0, 50),
    (COSINE | V | ORIGINAL, 7),
    (COSINE | V | ORIGINAL | {"timestep_scaling": 0.01}, 8),
    (STABLE | ZERO_SNR | V, 5),
    (LINEAR | X0 | {"original_inference_steps": 1000}, 30),
]
FLOWS = [({}, 1), ({}, 2), ({}, 10), ({"shift": 3.0}, 4), ({"shift": 3.0}, 28), ({"shift": 0.5}, 9)]
FLOWS += [({"shift": 6.0, "num_train_timesteps": 500}, 12)]
EDMS = [({}, 1), ({}, 2), ({}, 18), (SIGMA_MIN, 9), ({"sigma_data": 1.0, "sigma_max": 14.6, "sigma_min": 0.03}, 16)]
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
    + [("lcm", 0.0, *grid) for grid in LCM_GRIDS]
    + [("flow-euler", 0.0, *grid) for grid in FLOWS]
    # Without Karras on a cosine schedule: the rounding of its sigmas to float32
    # moves the sample by 2e-4.
    + [("unipc", 0.0, *grid) for grid in SIGMA_GRIDS[:-1] + ENDS]
    + [("unipc", 0.0, STABLE | LEADING | SIGMA_MIN | {"lower_order_final": False}, n) for n in (2, 6)]
)
CLEAN = {"set_alpha_to_one": False}
INVERSE_CASES = [
    ("ddim", 0.0, *grid)
    for grid in [
        (STABLE | LEADING, 10),
        (STABLE | LEADING | CLEAN, 1),
        # Less than this first beta, and 1 - alpha loses digits in float32.
        ({"beta_start": 0.01, "beta_end": 0.02} | LEADING | CLEAN | X0, 7),
        (COSINE | TRAILING | V, 8),
        (LINEAR | TRAILING | V, 13),
        (STABLE | TRAILING | V | ZERO_SNR, 9),
        (LINEAR | {"num_train_timesteps": 12}, 12),
    ]
]
EDM_CASES = [(solver, 0.0, *grid) for solver in EDM_CLASSES for grid in EDMS]


def one(value):
    return torch.tensor([[value]], dtype=torch.float64)


def rollout(make, eta, config, steps, latent, output, noise):
    """Returns timesteps, what the network is shown at each, and the sample."""
    scheduler = make(**config, **({"clip_sample": False} if make in CLIPPING else {}))
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        # Else a first timestep that occurs twice, as Karras' can once rounded,
        # is taken for its second occurrence.
        scheduler.set_begin_index(0)
    if hasattr(scheduler, "sigmas"):
        # The values stay float32, the arithmetic need not: Heun's correction
        # multiplies the rounding of a first sigma of 2e4 by 1e4.
        scheduler.sigmas = scheduler.sigmas.double()
    x = one(latent) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    inputs = []
    for i, t in enumerate(scheduler.timesteps):
        shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        inputs.append(shown.item())
        more = {}
        if make is DDIMScheduler:
            more = {"eta": eta, "variance_noise": one(noise(i)) if eta else None}
        for module in (scheduling_ddpm, scheduling_lcm):
            module.randn_tensor = lambda *_, **__: one(noise(i))
        x = scheduler.step(one(output(i)), t, x, **more).prev_sample
    return [float(t) for t in scheduler.timesteps], inputs, x.item()


def run(classes, solver, eta, config, steps):
    make = classes[solver]
    sample = lambda *signals: rollout(make, eta, config, steps, *signals)[2]
    none = lambda _: 0.0
    only = lambda k: lambda i: float(i == k)
    timesteps, inputs, result = rollout(
        make, eta, config, steps, 0.7, lambda i: math.sin(1.3 * i + 0.5), lambda i: math.cos(1.7 * i)
    )
    calls = range(len(timesteps))
    return {
        "solver": solver,
        "eta": eta,
        "config": {"_class_name": make.__name__, **config, "clip_sample": False},
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
    "configs": [scheduler().to_json_string() for scheduler in CONFIGS],
    "runs": [run(CLASSES, *case) for case in CASES] + [run(EDM_CLASSES, *case) for case in EDM_CASES],
    "inversions": [run(INVERSE_CLASSES, *case) for case in INVERSE_CASES],
}))
