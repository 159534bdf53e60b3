"""What users may say: typed, frozen configuration models, and the YAML folders that fill them.

Every module is a door.
"""
