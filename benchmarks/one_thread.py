"""One thread for BLAS and OpenMP. They read these variables when they are first loaded: import this before all else."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
