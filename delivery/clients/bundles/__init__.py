"""Adapters and bundles on disk, by content digest: written whole or not at all, verified whenever they are read.

<<<<<<< HEAD
Doors: `adapters` (one folder each), `images` (one OCI image layout a bundle), `layout`, `layers` (which files),
`manifests`, `safetensors_header`.
=======
Doors: `adapters` (one folder each), `images` (one OCI image layout a bundle), `layout`, `manifests`,
`base_image`, `safetensors_header`.
>>>>>>> main
"""
