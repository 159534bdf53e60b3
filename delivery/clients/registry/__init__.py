"""Bundles in OCI registries: pushed and pulled by digest, verified byte for byte, signed. No Prefect, no torch.

The agent beside a vLLM pulls and verifies by `pull.pull(Wire(reference.host, config), reference, home, policy, now)`;
`verify.verify(folder, digest, policy, now)` verifies what lies in a folder. Doors: `pull`, `push`, `verify`,
`signatures`, `reference`, `wire`, `known`, `catalog` (what a repository holds, and its removal), `fetch`, `errors`.
"""
