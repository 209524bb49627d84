//! The running kernel's BTF: where the fields are that the programs read.

use std::{io, path::PathBuf};

use btfparse::{Error, ErrorKind, Offset, Readable, TypeInformation};
use netstat_ebpf::fields::{self, ABSENT, KernelField, Offsets};

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
    let places = std::iter::once((field.owner, field.path)).chain(field.elsewhere);
    let mut offsets = places.filter_map(|(owner, path)| {
        let owner = types.id_of(owner)?;
        match types.offset_of(owner, path).ok()?.1 {
            Offset::ByteOffset(offset) if !field.bits => Some(offset),
            Offset::BitOffsetAndSize(first, width) if field.bits => fields::bits(first, width),
            _ => None,
        }
    });
    match offsets.next() {
        Some(offset) => Ok(offset),
        None if !field.required => Ok(ABSENT),
        None => Err(LoadError::MissingField {
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
            elsewhere: None,
            bits: false,
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
    fn a_field_is_looked_for_elsewhere_and_a_bit_field_keeps_its_bits() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            return;
        };
        let types = TypeInformation::new(&Bytes(bytes)).unwrap();
        let field = |path, elsewhere, bits| -> &'static KernelField {
            Box::leak(Box::new(KernelField {
                owner: "request_sock",
                path,
                required: true,
                elsewhere,
                bits,
            }))
        };
        let retrans = resolve(&types, field("num_retrans", None, false)).unwrap();
        let elsewhere = field("no_such_field", Some(("request_sock", "num_retrans")), false);
        assert_eq!(resolve(&types, elsewhere).unwrap(), retrans);
        // The byte behind it: one bit of `syncookie`, then seven.
        let timeouts = resolve(&types, field("num_timeout", None, true)).unwrap();
        assert_eq!(Some(timeouts), fields::bits((retrans + 1) * 8 + 1, 7));
        assert!(resolve(&types, field("num_timeout", None, false)).is_err());
    }

    #[test]
    fn cut_btf_is_an_error() {
        assert!(TypeInformation::new(&Bytes(vec![0x9f, 0xeb, 1])).is_err());
    }
}
