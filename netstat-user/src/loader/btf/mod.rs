//! The running kernel's BTF: where the fields are that the programs read.

mod types;

use std::path::PathBuf;

use aya::{Btf, Endianness};
use netstat_ebpf::fields::{self, ABSENT, KernelField, Offsets};
use zerocopy::IntoBytes;

use super::LoadError;
use types::{BtfError, Types};

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's BTF, read as far as it is asked for.
pub(super) struct Kernel<'a>(Types<'a>);

impl<'a> Kernel<'a> {
    /// What its [`bytes()`] tell.
    ///
    /// # Errors
    ///
    /// [`LoadError::BadBtf`] when they make no sense.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, LoadError> {
        read(bytes).map(Self)
    }

    /// Where the fields are that programs read.
    ///
    /// # Errors
    ///
    /// [`LoadError::MissingField`] when there is none that netstate cannot do without.
    pub(super) fn offsets(&self) -> Result<Offsets, LoadError> {
        Offsets::resolve(|field| resolve(&self.0, field))
    }

    /// What programs are attached to, of these names: functions, and types that stand for tracepoints.
    ///
    /// # Errors
    ///
    /// [`LoadError::BadBtf`] when it makes no sense.
    pub(super) fn functions(&self, names: &[String]) -> Result<Btf, LoadError> {
        let names = names.iter().map(String::as_bytes).collect();
        Btf::parse(&self.0.outline(&names), Endianness::default())
            .map_err(|error| LoadError::BadBtf(error.to_string()))
    }
}

/// The fields that this kernel lacks and netstate can do without.
///
/// # Errors
///
/// As [`bytes()`], [`Kernel::read`] and [`Kernel::offsets`].
pub(super) fn absent_fields() -> Result<Vec<String>, LoadError> {
    let bytes = bytes()?;
    let offsets = Kernel::read(&bytes)?.offsets()?;
    let (offsets, _) = offsets.as_bytes().as_chunks::<4>();
    let fields = Offsets::FIELDS.iter().zip(offsets);
    let absent = fields.filter(|(field, offset)| !field.former && u32::from_ne_bytes(**offset) == ABSENT);
    Ok(absent
        .map(|(field, _)| format!("{}.{}", field.owner, field.path))
        .collect())
}

/// All of it.
///
/// # Errors
///
/// [`LoadError::NoBtf`] when the kernel has none.
pub(super) fn bytes() -> Result<Vec<u8>, LoadError> {
    std::fs::read(VMLINUX).map_err(|error| LoadError::NoBtf {
        path: PathBuf::from(VMLINUX),
        error,
    })
}

/// The types, with the structures found that have the fields.
fn read(bytes: &[u8]) -> Result<Types<'_>, LoadError> {
    let bad = |error: BtfError| LoadError::BadBtf(error.to_string());
    let mut types = Types::read(bytes).map_err(bad)?;
    let mut owners: Vec<_> = Offsets::FIELDS
        .iter()
        .flat_map(places)
        .map(|(owner, _)| owner)
        .collect();
    owners.sort_unstable();
    owners.dedup();
    types.find_structures(&owners);
    Ok(types)
}

/// Where a field may be.
fn places(field: &KernelField) -> impl Iterator<Item = (&'static str, &'static str)> {
    std::iter::once((field.owner, field.path)).chain(field.elsewhere)
}

fn resolve(types: &Types<'_>, field: &'static KernelField) -> Result<u32, LoadError> {
    let mut offsets = places(field).filter_map(|(owner, path)| {
        let place = types.place(owner, path)?;
        match place.width {
            None if !field.bits => Some(place.first / 8),
            // What is a bit field on one kernel can have a byte of its own on another.
            None => fields::bits(place.first, u8::BITS),
            Some(width) if field.bits => fields::bits(place.first, width),
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

#[cfg(test)]
mod tests {
    use btfparse::{Error, ErrorKind, Offset, Readable, TypeInformation};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_that_is_not_there_is_named() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            return; // A kernel without BTF: the error for that is tested from outside.
        };
        let types = read(&bytes).unwrap();
        let missing = KernelField {
            owner: "sock",
            path: "sk_no_such_field",
            required: true,
            elsewhere: None,
            former: false,
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
        let types = read(&bytes).unwrap();
        let field = |path, elsewhere, bits| -> &'static KernelField {
            Box::leak(Box::new(KernelField {
                owner: "request_sock",
                path,
                required: true,
                elsewhere,
                former: false,
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
    fn every_field_is_where_another_reader_finds_it() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            return;
        };
        let ours = read(&bytes).unwrap();
        let theirs = TypeInformation::new(&Bytes(&bytes)).unwrap();
        for field in Offsets::FIELDS {
            for (owner, path) in places(field) {
                let found = theirs
                    .id_of(owner)
                    .and_then(|owner| theirs.offset_of(owner, path).ok());
                let found = found.map(|(_, place)| match place {
                    Offset::ByteOffset(bytes) => (bytes * 8, None),
                    Offset::BitOffsetAndSize(first, width) => (first, Some(width)),
                });
                let place = ours.place(owner, path).map(|place| (place.first, place.width));
                assert_eq!(place, found, "{owner}.{path}");
            }
        }
    }

    #[test]
    fn an_outline_has_the_functions_where_they_were() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            return;
        };
        let names = [
            "bpf_iter_tcp",
            "bpf_iter_task_file",
            "btf_trace_inet_sock_set_state",
        ];
        let wanted = names.iter().map(|name| name.as_bytes()).collect();
        let outline = read(&bytes).unwrap().outline(&wanted);
        assert!(Btf::parse(&outline, Endianness::default()).is_ok());
        let whole = TypeInformation::new(&Bytes(&bytes)).unwrap();
        let outline = TypeInformation::new(&Bytes(&outline)).unwrap();
        for name in names {
            assert!(whole.id_of(name).is_some(), "{name}");
            assert_eq!(outline.id_of(name), whole.id_of(name), "{name}");
        }
        // What nobody has asked for is not there.
        assert!(whole.id_of("tcp_v4_connect").is_some());
        assert!(outline.id_of("tcp_v4_connect").is_none());
    }

    #[test]
    fn cut_btf_is_an_error() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            return;
        };
        for length in [0, 3, 23, 24, 100, bytes.len() / 2, bytes.len() - 1] {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(damage in prop::collection::vec((0..400_usize, any::<u8>()), 0..8)) {
            let mut bytes = small();
            for (at, value) in damage {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(types) = read(&bytes) {
                for field in Offsets::FIELDS {
                    let _ = resolve(&types, field);
                }
                let _ = types.outline(&[&b"sock"[..], b"int"].into());
            }
        }
    }

    /// BTF with one structure that contains itself: `struct sock { struct sock; int sk_err; }`.
    fn small() -> Vec<u8> {
        let strings = b"\0sock\0sk_err\0int\0";
        let int = [14, 1 << 24, 4, 32];
        let structure = [1, 4 << 24 | 2, 8, 0, 2, 0, 6, 1, 32];
        let types = [&int[..], &structure].concat();
        let length = u32::try_from(types.len() * 4).unwrap();
        let header = [24, 0, length, length, u32::try_from(strings.len()).unwrap()];
        let words = header
            .iter()
            .chain(&types)
            .flat_map(|word: &u32| word.to_ne_bytes());
        let magic = 0xeb9f_u16.to_ne_bytes().into_iter().chain([1, 0]);
        magic.chain(words).chain(*strings).collect()
    }

    #[test]
    fn a_structure_that_contains_itself_ends() {
        let bytes = small();
        let types = read(&bytes).unwrap();
        assert_eq!(
            types.place("sock", "sk_err"),
            Some(types::Place {
                first: 32,
                width: None
            })
        );
        assert_eq!(types.place("sock", "sk_other"), None);
    }

    struct Bytes<'a>(&'a [u8]);

    impl Readable for Bytes<'_> {
        fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
            let start = usize::try_from(offset).unwrap();
            let part = self.0.get(start..start + buffer.len());
            let part = part.ok_or_else(|| Error::new(ErrorKind::IOError, "the end"))?;
            buffer.copy_from_slice(part);
            Ok(())
        }
    }
}
