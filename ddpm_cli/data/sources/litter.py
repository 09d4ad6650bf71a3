"""Name the folders that systems, network drives and programs leave behind, in which no pictures of anybody lie."""

PACKERS_LITTER = "__macosx"
LITTER = frozenset(
    {PACKERS_LITTER, "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "lost+found"}
    | {"$recycle.bin", "recycler", "system volume information", "__pycache__"}
)
"""In small letters; hidden folders are never looked into."""
