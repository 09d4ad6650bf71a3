"""Know what other programs and papers call our choices and keys: never taken for ours, but answered with them."""

from __future__ import annotations

from collections.abc import Mapping

from ddpm_cli.core.names import plain

DDPM_IS = '"ddpm"'
_KINDS: Mapping[str, Mapping[str, str]] = {
    "data": {
        '"fashion-mnist"': "fashion fmnist",
        '"cifar10"': "cifar",
        '"celeba"': "celebfaces",
        '"folder"': "directory imagefolder images pictures",
        '"huggingface"': "hf hub datasets",
        '"arrays"': "npz npy numpy array",
        '"slices"': "nifti nii dicom dcm volume volumes scan scans stack medical",
    },
    "schedule": {
        '"cosine"': "squaredcos_cap_v2 squaredcos cosine_beta",
        '"learned"': "vdm",
        '"linear"': "ddpm linear_beta",
        '"flow"': "flow_matching rectified_flow fm",
        '"trig-flow"': "trigonometric scm",
    },
    "model": {'"dit"': "transformer vit", '"unet"': "unet2d unet2dmodel"},
    "sampler": {
        '"dpm-solver++"': "dpm dpm++ dpmpp dpm-solver dpmsolver dpmpp_2m dpm++_2m dpmsolver_multistep dpmsolverpp",
        '"dpm-solver++" with sde = true': "dpmpp_sde dpmpp_2m_sde dpm++_sde dpm++_2m_sde dpmsolver_sde",
        '"ddim" with eta = 1': "euler-a euler_ancestral euler_a",
        DDPM_IS: "ancestral",
        '"heun" with spacing = "karras"': "edm karras",
    },
    "spacing": {'"logsnr"': "lambdas lu", '"karras"': "edm sigmas"},
    "parameterization": {
        '"eps"': "epsilon noise",
        '"x0"': "sample xstart x_start pred_x0 start_x image",
        '"v"': "v_prediction velocity",
        '"flow"': "flow_prediction flow_matching rectified_flow",
    },
    "loss": {'"simple"': "mse l2 l_simple", '"vlb"': "kl nll l_vlb", '"hybrid"': "rescaled_mse l_hybrid learned_sigma"},
    "weighting": {'"min-snr"': "minsnr_gamma", '"simple"': "constant none uniform"},
    "timesteps": {'"log-normal"': "edm lognorm", '"logit-normal"': "sd3", '"loss-aware"': "loss_second_moment importance"},
    "threshold": {'"clamp"': "static clip clip_sample clip_denoised"},
}
_KEYS: Mapping[str, str] = {
    "start.weights": "from init_from from_pretrained pretrained finetune_from init_checkpoint pretrained_model_name_or_path",
    "start.freeze": "freeze_until frozen freeze_layers",
    "optimizer.lr": "learning_rate max_lr peak_lr step_size",
    "optimizer.betas": "beta1 beta2 adam_beta1 adam_beta2 adam_betas momentum",
    "optimizer.weight_decay": "wd l2",
    "optimizer.warmup_steps": "warmup lr_warmup_steps num_warmup_steps",
    "optimizer.decay": "lr_scheduler scheduler lr_schedule lr_decay",
    "train.batch_size": "bs batch train_batch_size global_batch_size",
    "train.micro_batch_size": "gradient_accumulation_steps grad_accum accumulation microbatch",
    "train.epochs": "num_epochs max_epochs n_epochs epoch nb_epochs num_train_epochs",
    "train.steps": "max_steps total_steps num_train_steps train_num_steps training_steps iterations num_iterations max_iters",
    "train.minutes": "max_time time_limit",
    "train.max_grad_norm": "grad_clip clip_grad clip_grad_norm gradient_clip_val",
    "train.precision": "mixed_precision amp fp16 bf16 dtype",
    "train.seed": "random_seed manual_seed",
    "train.log_every": "log_interval log_steps logging_steps log_every_n_steps",
    "train.sample_every": "sample_interval save_images_epochs",
    "train.trackers": "logger log_with report_to",
    "checkpoint.every": "save_every save_interval save_steps checkpointing_steps save_and_sample_every save_model_epochs",
    "checkpoint.keep_last": "checkpoints_total_limit save_total_limit",
    "schedule.timesteps": "T num_timesteps n_timesteps num_train_timesteps diffusion_steps n_T max_timesteps",
    "schedule.kind": "beta_schedule noise_schedule schedule_type",
    "schedule.beta_start": "beta_1 beta_0 beta_min linear_start",
    "schedule.beta_end": "beta_T beta_max linear_end",
    "schedule.logsnr_shift": "snr_shift",
    "schedule.zero_terminal_snr": "rescale_betas_zero_snr ztsnr",
    "ema.decay": "ema_decay ema_rate ema_beta ema_max_decay",
    "objective.parameterization": "prediction_type predict pred_type model_mean_type prediction",
    "objective.loss": "loss_type",
    "objective.weighting.gamma": "snr_gamma min_snr_gamma",
    "objective.label_dropout": "p_uncond cond_drop_prob class_dropout_prob uncond_prob",
    "model.base_channels": "dim model_channels num_channels ch n_channels",
    "model.channel_mult": "dim_mults ch_mult block_out_channels channel_mults",
    "model.blocks_per_level": "num_res_blocks layers_per_block",
    "model.attention_resolutions": "attn_resolutions",
    "model.attention_heads": "num_heads attn_heads",
    "model.width": "hidden_size embed_dim hidden_dim",
    "model.depth": "num_layers n_layers",
    "model.norm_groups": "norm_num_groups groups resnet_block_groups",
    "model.num_classes": "classes n_classes num_class_embeds class_cond",
    "data.size": "image_size resolution img_size",
    "data.root": "folder dir data_dir dataset_path",
    "data.kind": "dataset dataset_name",
    "data.horizontal_flip": "flip random_flip hflip",
    "data.limit": "max_images num_samples",
    "sample.sampler.steps": "num_inference_steps sampling_timesteps sampling_steps sample_steps num_sampling_steps",
    "sample.sampler.eta": "ddim_sampling_eta ddim_eta",
    "sample.guidance.scale": "guidance_scale cfg cfg_scale w guidance_weight",
}


def _by_plain_name(table: Mapping[str, str]) -> dict[str, str]:
    return {plain(name): ours for ours, names in table.items() for name in names.split()}


KINDS = {section: _by_plain_name(table) for section, table in _KINDS.items()}
"""By the last part of a section's path: what other names of its kinds are called here, by their `plain` spelling."""
KEYS = _by_plain_name(_KEYS)
"""The dotted key that another name of it means, by its `plain` spelling."""


def kinds_called_otherwise(path: str) -> Mapping[str, str]:
    """List other names of the kinds of a section of the config, by their `plain` spelling, with what they are called here."""
    return KINDS.get(path.rpartition(".")[2], {})
