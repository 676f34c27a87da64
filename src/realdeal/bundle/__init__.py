"""The MONAI bundle brain_image_synthesis_latent_diffusion_model as a study's generator."""
