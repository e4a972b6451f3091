//! What an error means to the caller: one line on stderr and an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use imagezip::capture::CaptureError;
use imagezip::image::ImageError;
use imagezip::io::DiskError;
use imagezip::restore::{Failure, Refusal};
use imagezip::verify::VerifyError;
use sigs::SignatureError;
use sigs::zdi::ZdiError;

/// Usage or set-up.
pub(crate) const USAGE: u8 = 2;
const FAILED: u8 = 1;
const UNVERIFIED: u8 = 7;
const NO_SPACE: u8 = 8;
const INTERRUPTED: u8 = 130;

/// What is asked for cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A comparison that found differences; what they are was printed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Differs(pub(crate) String);

/// A signal asked to stop.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Tells about an error and returns its exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read the output has seen enough.
        return ExitCode::SUCCESS;
    }
    // Nothing is left to do when stderr is closed, too.
    drop(writeln!(io::stderr().lock(), "imagezip: {error:#}"));
    ExitCode::from(code_of(error))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn code_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of_cause).unwrap_or(FAILED)
}

/// Returns the code that one link of the chain decides, or `None` when a later one may.
fn code_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<Interrupted>() {
        return Some(INTERRUPTED);
    }
    if cause.is::<Usage>() || is_no_disk(cause) {
        return Some(USAGE);
    }
    if cause.is::<Differs>() {
        return Some(UNVERIFIED);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        return full.then_some(NO_SPACE);
    }
    if let Some(error) = cause.downcast_ref::<ImageError>() {
        return of_image(error);
    }
    if let Some(error) = cause.downcast_ref::<ZdiError>() {
        return of_container(error);
    }
    if let Some(error) = cause.downcast_ref::<SignatureError>() {
        return of_signature(error);
    }
    match (cause.downcast_ref::<Failure>(), cause.downcast_ref::<VerifyError>()) {
        (Some(Failure::WrongRoot { .. } | Failure::NotZero { .. } | Failure::Changed { .. }), _) => Some(UNVERIFIED),
        (_, Some(VerifyError::WrongRoot { .. } | VerifyError::Size { .. })) => Some(UNVERIFIED),
        (Some(Failure::Cancelled), _) | (_, Some(VerifyError::Cancelled)) => Some(INTERRUPTED),
        _ => match (cause.downcast_ref::<CaptureError>(), cause.downcast_ref::<Refusal>()) {
            (Some(CaptureError::Cancelled), _) | (_, Some(Refusal::Cancelled)) => Some(INTERRUPTED),
            (Some(CaptureError::BlockSize { .. } | CaptureError::Bases { .. }), _) => Some(USAGE),
            _ => None,
        },
    }
}

fn is_no_disk(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref::<DiskError>(), Some(DiskError::Kind { .. }))
}

fn of_image(error: &ImageError) -> Option<u8> {
    match error {
        ImageError::Container { .. } | ImageError::Frame { .. } | ImageError::Zstd(_) => None,
        ImageError::Cancelled => Some(INTERRUPTED),
        ImageError::Expand { .. }
        | ImageError::Map { .. }
        | ImageError::BadMap { .. }
        | ImageError::Origin { .. }
        | ImageError::Counts { .. }
        | ImageError::MissingBase { .. }
        | ImageError::Foreign { .. }
        | ImageError::BlockSize { .. } => Some(UNVERIFIED),
    }
}

fn of_container(error: &ZdiError) -> Option<u8> {
    match error {
        ZdiError::Read { .. } => None,
        ZdiError::Format { .. } | ZdiError::Manifest(_) | ZdiError::WrongDigest { .. } => Some(UNVERIFIED),
    }
}

fn of_signature(error: &SignatureError) -> Option<u8> {
    match error {
        SignatureError::Read { .. } | SignatureError::Write(_) | SignatureError::Incomplete(_) => None,
        SignatureError::Format { .. } | SignatureError::WrongRoot { .. } | SignatureError::WrongPage { .. } => {
            Some(UNVERIFIED)
        }
    }
}
