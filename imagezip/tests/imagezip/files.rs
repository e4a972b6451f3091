//! `ls`, `cat` and `cp`: what is in the file systems of images, without mounting them.

mod copy;
mod hostile;
mod made;
mod places;
mod read;
