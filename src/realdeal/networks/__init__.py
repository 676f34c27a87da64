"""The three networks: autoencoder, latent diffusion U-Net, refiner."""
