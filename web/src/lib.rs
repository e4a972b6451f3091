//! Pages: one struct and one template each, with sample data in the tests. No SQL, no HTTP; handlers fill the structs.
//!
//! - [`urls`]: every address a page links to
//! - [`assets`]: style and pictures, embedded, called by the hash of their content
//! - [`words`]: sizes, times, durations and how long it will take, for people
//! - [`parts`]: badges, times and the frame around every page
//! - [`pages`]: the pages
//!
//! A page is complete without JavaScript and at 320 px; there is no script at all. Text comes from people and is
//! escaped by the templates; only [`parts`] are written as they are.

pub mod assets;
pub mod pages;
pub mod parts;
pub mod urls;
pub mod words;

pub use askama::Template;
