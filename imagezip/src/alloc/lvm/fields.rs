//! Typed access to the fields of a section: what is missing or of the wrong kind is a doubt.

use super::LvmDoubt;
use super::text::{Section, Value};

/// What is unknown is named in a doubt; more than this of it says nothing.
const MOST_QUOTED: usize = 64;

pub(super) fn number(section: &Section<'_>, name: &'static str) -> Result<u64, LvmDoubt> {
    match section.get(name) {
        Some(Value::Number(number)) => Ok(*number),
        _ => Err(LvmDoubt::Field(name)),
    }
}

pub(super) fn text<'a>(section: &Section<'a>, name: &'static str) -> Result<&'a str, LvmDoubt> {
    match section.get(name) {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(LvmDoubt::Field(name)),
    }
}

pub(super) fn list<'s, 'a>(section: &'s Section<'a>, name: &'static str) -> Result<&'s [Value<'a>], LvmDoubt> {
    match section.get(name) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(LvmDoubt::Field(name)),
    }
}

/// Returns a list of flags.
pub(super) fn words<'a>(section: &Section<'a>, name: &'static str) -> Result<Vec<&'a str>, LvmDoubt> {
    let word = |value: &Value<'a>| match value {
        Value::Text(text) => Ok(*text),
        _ => Err(LvmDoubt::Field(name)),
    };
    list(section, name)?.iter().map(word).collect()
}

pub(super) fn section<'s, 'a>(parent: &'s Section<'a>, name: &'static str) -> Result<&'s Section<'a>, LvmDoubt> {
    match parent.get(name) {
        Some(Value::Section(section)) => Ok(section),
        _ => Err(LvmDoubt::Field(name)),
    }
}

/// Refuses a section with a field that is not in the list: it may change what the others mean.
pub(super) fn only(section: &Section<'_>, known: &[&str]) -> Result<(), LvmDoubt> {
    match section.keys().find(|name| !known.contains(name)) {
        Some(name) => Err(LvmDoubt::UnknownField(quoted(name))),
        None => Ok(()),
    }
}

/// Returns a piece of the text that is fit for a message.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(MOST_QUOTED).collect()
}
