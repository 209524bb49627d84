//! The running kernel's BTF: where the fields are that the programs read.

use std::{io, path::PathBuf};

use btfparse::{Error, ErrorKind, Offset, Readable, TypeInformation};
use netstat_ebpf::fields::{ABSENT, KernelField, Offsets};

use zerocopy::IntoBytes;

use super::LoadError;

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Reads the offsets of all fields.
///
/// # Errors
///
/// [`LoadError::NoBtf`] when the kernel has no BTF, [`LoadError::BadBtf`] when it makes no sense, and
/// [`LoadError::MissingField`] when it lacks a field that netstate cannot do without.
pub(super) fn offsets() -> Result<Offsets, LoadError> {
    let bytes = std::fs::read(VMLINUX).map_err(|error| LoadError::NoBtf {
        path: PathBuf::from(VMLINUX),
        error,
    })?;
    let types = TypeInformation::new(&Bytes(bytes))
        .map_err(|error| LoadError::BadBtf(format!("{:?}", error.kind())))?;
    Offsets::resolve(|field| resolve(&types, field))
}

/// The fields that this kernel lacks and netstate can do without.
///
/// # Errors
///
/// As [`offsets`].
pub(super) fn absent_fields() -> Result<Vec<String>, LoadError> {
    let offsets = offsets()?;
    let (offsets, _) = offsets.as_bytes().as_chunks::<4>();
    let fields = Offsets::FIELDS.iter().zip(offsets);
    let absent = fields.filter(|(_, offset)| u32::from_ne_bytes(**offset) == ABSENT);
    Ok(absent
        .map(|(field, _)| format!("{}.{}", field.owner, field.path))
        .collect())
}

fn resolve(types: &TypeInformation, field: &'static KernelField) -> Result<u32, LoadError> {
    let offset = types
        .id_of(field.owner)
        .and_then(|owner| types.offset_of(owner, field.path).ok());
    match offset {
        Some((_, Offset::ByteOffset(offset))) => Ok(offset),
        _ if !field.required => Ok(ABSENT),
        _ => Err(LoadError::MissingField {
            owner: field.owner,
            path: field.path,
        }),
    }
}

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| self.0.get(start..start.checked_add(buffer.len())?));
        let part = part.ok_or_else(|| {
            let end = io::Error::from(io::ErrorKind::UnexpectedEof);
            Error::new(ErrorKind::IOError, &end.to_string())
        })?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_there_is_named() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            return; // A kernel without BTF: the error for that is tested from outside.
        };
        let types = TypeInformation::new(&Bytes(bytes)).unwrap();
        let missing = KernelField {
            owner: "sock",
            path: "sk_no_such_field",
            required: true,
        };
        let missing: &'static KernelField = Box::leak(Box::new(missing));
        let message = resolve(&types, missing).unwrap_err().to_string();
        assert!(
            message.contains("sock") && message.contains("sk_no_such_field"),
            "{message}"
        );
        let optional: &'static KernelField = Box::leak(Box::new(KernelField {
            required: false,
            ..*missing
        }));
        assert_eq!(resolve(&types, optional).unwrap(), ABSENT);
    }

    #[test]
    fn cut_btf_is_an_error() {
        assert!(TypeInformation::new(&Bytes(vec![0x9f, 0xeb, 1])).is_err());
    }
}
