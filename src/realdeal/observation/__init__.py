"""An independent reader of volumes, real or synthetic: what are their covariates?

It is fitted to real training scans alone and shares nothing with the LDM. Volumes are aligned, so
an atlas of the training scans needs no registration.
"""
