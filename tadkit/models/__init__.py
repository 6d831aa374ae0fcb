"""The nets: backbones, branches, fusion, heads, and the student, teacher and detector made of them."""
