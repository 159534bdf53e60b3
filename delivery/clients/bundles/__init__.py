"""Adapters and bundles on disk, by content digest: written whole or not at all, verified whenever they are read.

Doors: `adapters` (one folder each), `images` (one OCI image layout a bundle), `layout`, `layers` (which files),
`manifests`, `base_image`, `safetensors_header`.
"""
