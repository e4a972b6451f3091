//! What an error means to the caller: one line on stderr and an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use imagezip::capture::CaptureError;
use imagezip::files::FilesError;
use imagezip::foreign::proof::ProofError;
use imagezip::foreign::qcow2::export::ExportError;
use imagezip::foreign::{ndz, qcow2};
use imagezip::image::ImageError;
use imagezip::io::DiskError;
use imagezip::restore::{Failure, Refusal, RestoreError};
use imagezip::rewrite::RewriteError;
use imagezip::verify::VerifyError;
use sigs::SignatureError;
use sigs::zdi::ZdiError;

/// Usage or set-up.
pub(crate) const USAGE: u8 = 2;
const FAILED: u8 = 1;
const PARTLY: u8 = 3;
const NOT_FOUND: u8 = 4;
const NOT_ALLOWED: u8 = 5;
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

/// What was asked for was done, with an image of a disk that could not be read completely.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the image is incomplete: {sectors} sectors of the disk could not be read when it was made and count as zeros")]
pub(crate) struct Incomplete {
    pub(crate) sectors: u64,
}

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
    if let Some(error) = cause.downcast_ref::<FilesError>()
        && let Some(code) = of_files(error)
    {
        return Some(code);
    }
    if cause.is::<Differs>() {
        return Some(UNVERIFIED);
    }
    if cause.is::<Incomplete>() {
        return Some(PARTLY);
    }
    if let Some(RestoreError::Unfinished(failure)) = cause.downcast_ref::<RestoreError>() {
        return Some(of_unfinished(failure));
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<ImageError>()) {
            // What an image that is read like a disk could not give.
            return of_image(error);
        }
        return match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(NO_SPACE),
            io::ErrorKind::NotFound => Some(NOT_FOUND),
            io::ErrorKind::PermissionDenied => Some(NOT_ALLOWED),
            // What is wrong with a foreign file may show when it is read; an error of reading holds it without being a
            // link of the chain.
            _ => error.get_ref().and_then(|inside| of_foreign(inside)),
        };
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
    if let Some(code) = of_foreign(cause) {
        return Some(code);
    }
    if let Some(error) = cause.downcast_ref::<ProofError>() {
        return of_proof(error);
    }
    if matches!(cause.downcast_ref::<ExportError>(), Some(ExportError::Cancelled)) {
        return Some(INTERRUPTED);
    }
    if let Some(RewriteError::WrongRoot { .. }) = cause.downcast_ref::<RewriteError>() {
        return Some(UNVERIFIED);
    }
    match (cause.downcast_ref::<Failure>(), cause.downcast_ref::<VerifyError>()) {
        (Some(Failure::WrongRoot { .. } | Failure::NotZero { .. } | Failure::Changed { .. }), _) => Some(UNVERIFIED),
        (_, Some(VerifyError::WrongRoot { .. } | VerifyError::Unfit(_))) => Some(UNVERIFIED),
        (Some(Failure::Cancelled), _) | (_, Some(VerifyError::Cancelled)) => Some(INTERRUPTED),
        _ => match (cause.downcast_ref::<CaptureError>(), cause.downcast_ref::<Refusal>()) {
            (Some(CaptureError::Cancelled), _) | (_, Some(Refusal::Cancelled)) => Some(INTERRUPTED),
            (_, Some(Refusal::Signature)) => Some(UNVERIFIED),
            (_, Some(Refusal::Image(error))) => of_image(error),
            (Some(CaptureError::BlockSize { .. } | CaptureError::Bases { .. }), _) => Some(USAGE),
            _ => None,
        },
    }
}

/// Returns the code for a target that was written to. Whatever the system said of it, more happened than that something
/// was not found or not allowed.
fn of_unfinished(failure: &Failure) -> u8 {
    let decided = std::iter::successors(Some(failure as &(dyn std::error::Error + 'static)), |cause| cause.source());
    match decided.filter_map(code_of_cause).next() {
        Some(NOT_FOUND | NOT_ALLOWED) | None => FAILED,
        Some(code) => code,
    }
}

/// Returns the code for a file that cannot be had, unless what lies behind it decides.
fn of_files(error: &FilesError) -> Option<u8> {
    match error {
        // Its box hides it from who walks the chain.
        FilesError::Unfinished { source, .. } => of_files(source),
        FilesError::Cancelled => Some(INTERRUPTED),
        FilesError::NotFound { .. } => Some(NOT_FOUND),
        error if error.is_usage() => Some(USAGE),
        _ => None,
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

fn of_proof(error: &ProofError) -> Option<u8> {
    match error {
        ProofError::Read { .. } | ProofError::Chunks(_) => None,
        ProofError::Size { .. } | ProofError::NotZero { .. } | ProofError::WrongRoot { .. } => Some(UNVERIFIED),
        ProofError::Cancelled => Some(INTERRUPTED),
    }
}

/// Returns the code for a foreign file that is refused: damaged, or of a kind that is not read.
fn of_foreign(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(refused) = cause.downcast_ref::<qcow2::Refused>() {
        return Some(if refused.is_damage() { UNVERIFIED } else { FAILED });
    }
    cause.downcast_ref::<ndz::Refused>().map(|refused| if refused.is_damage() { UNVERIFIED } else { FAILED })
}
