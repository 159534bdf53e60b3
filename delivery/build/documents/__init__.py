"""What a bundle says of itself to people and to other programs: model card, eval report, materials, licences, origin.

They describe and change nothing that is served, so they are no part of the bundle's identity; each names the bundle's
digest, and the image's digest covers them all.

Doors: `written` (all of them), `origin`, `agreement` (whether they speak of this bundle).
"""
