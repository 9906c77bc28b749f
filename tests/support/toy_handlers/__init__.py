"""Handlers without language models, for tests of the control plane. The job's name says how they behave:

`slow …` rows take TOY_ROW_SECONDS; `crash …`, `raise …`, `refuse …`, `hungry …` (out of memory) break the curate step in the
child; `defer …` puts every augment step off once; `reject …` rejects every facet of compose; `bug …` raises in every other row of
compose; `many …` makes a shard of every row; `heavy …` adds an object to the assembly that is uploaded in parts.
"""
