"""A studio for characters: each has a look, pictures, faces that are swapped, and a LoRA that is trained of it.

models.py     characters, and what was made of them
forms.py      what may be asked for, as jobs
jobs.py       a row and its job together; what is saved when a job has ended
views.py      the pages
"""
