"""Bundles in OCI registries: pushed and pulled by digest, verified byte for byte, signed. No Prefect, no torch.

What a sidecar needs: `pull.pull(Wire(reference.host, config), reference, home, policy, now)` fetches and verifies,
`verify.verify(folder, digest, policy, now)` verifies what lies in a folder, and `images.unpack_adapter` takes the
adapter out of it. Doors: `pull`, `push`, `verify`, `signatures`, `reference`, `wire`, `known`.
"""
