//! What is allocated: our answer against that of `dumpe2fs`.
