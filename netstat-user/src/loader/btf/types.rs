//! A reader of BTF (`Documentation/bpf/btf.rst`) that knows of each type no more than where it begins: the kernel has
//! more than a hundred thousand of them, and netstate asks for a few dozen fields.

use std::collections::{HashMap, HashSet};

use zerocopy::IntoBytes;

/// The bytes are no BTF that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BtfError {
    #[error("it does not begin like BTF of this byte order")]
    Magic,
    #[error("it is cut short")]
    Short,
    #[error("it has a kind of type that is not known: {0}")]
    Kind(u32),
}

/// The kinds of types that are told apart here (`include/uapi/linux/btf.h`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
/// `struct btf_header`.
const HEADER: usize = HEADER_LENGTH as usize;
const HEADER_LENGTH: u32 = 24;
/// `struct btf_type`.
const TYPE: usize = 12;
/// `struct btf_member`.
const MEMBER: usize = 12;
/// No structure is nested this deep; BTF whose types lead in circles is.
const DEEPEST: usize = 32;

/// Where a member is: bits from the start of its structure, and how many bits it has if it is a bit field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: u32,
    pub(super) width: Option<u32>,
}

/// The types.
#[derive(Debug)]
pub(super) struct Types<'a> {
    header: &'a [u8],
    section: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins, by its id less one: id 0 is `void`.
    starts: Vec<u32>,
    structures: HashMap<&'a [u8], u32>,
}

/// A type's head: what `struct btf_type` says.
#[derive(Clone, Copy)]
struct Head {
    name: u32,
    kind: u32,
    /// Members, parameters or the like.
    count: usize,
    /// Members may be bit fields.
    flag: bool,
    /// Its size, or the type that it refers to.
    target: u32,
}

impl<'a> Types<'a> {
    /// Finds where each type of `btf` begins.
    ///
    /// # Errors
    ///
    /// [`BtfError`].
    pub(super) fn read(btf: &'a [u8]) -> Result<Self, BtfError> {
        let header = btf.get(..HEADER).ok_or(BtfError::Short)?;
        if header[..2] != MAGIC.to_ne_bytes() {
            return Err(BtfError::Magic);
        }
        let section = |at: usize| -> Option<&'a [u8]> {
            let start = number(header, 4)?.checked_add(number(header, at)?)?;
            let start = usize::try_from(start).ok()?;
            let length = usize::try_from(number(header, at + 4)?).ok()?;
            btf.get(start..start.checked_add(length)?)
        };
        let types = section(8).ok_or(BtfError::Short)?;
        let mut read = Self {
            header,
            section: types,
            strings: section(16).ok_or(BtfError::Short)?,
            starts: Vec::with_capacity(types.len() / 20),
            structures: HashMap::new(),
        };
        read.index()?;
        Ok(read)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.section.len() {
            let head = self.head(at).ok_or(BtfError::Short)?;
            let more = match head.kind {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => head.count * 12,
                kind::ENUM | kind::FUNC_PROTO => head.count * 8,
                // Pointers, qualifiers, names, functions and floats.
                other if other <= kind::ENUM64 => 0,
                other => return Err(BtfError::Kind(other)),
            };
            self.starts.push(u32::try_from(at).map_err(|_| BtfError::Short)?);
            at += TYPE + more;
            if at > self.section.len() {
                return Err(BtfError::Short);
            }
        }
        Ok(())
    }

    /// Finds the structures of these names; the first, where several have one.
    pub(super) fn find_structures(&mut self, names: &[&str]) {
        for at in 0..self.starts.len() {
            let start = self.starts[at] as usize;
            let Some(head) = self.head(start).filter(Head::is_structure) else {
                continue;
            };
            let name = self.name(head.name);
            if names.iter().any(|wanted| wanted.as_bytes() == name) {
                self.structures.entry(name).or_insert(self.starts[at]);
            }
        }
    }

    /// Where the member is that `path`, names with dots between them, leads to from the structure `owner`, which
    /// [`find_structures`](Self::find_structures) has found. A name may be followed by an index into an array.
    pub(super) fn place(&self, owner: &str, path: &str) -> Option<Place> {
        let mut structure = *self.structures.get(owner.as_bytes())? as usize;
        let (mut first, mut width) = (0_u32, None);
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let (name, index) = match name.split_once('[') {
                Some((name, index)) => (name, Some(index.strip_suffix(']')?.parse::<u32>().ok()?)),
                None => (name, None),
            };
            let (place, mut target) = self.member(structure, name.as_bytes(), 0)?;
            first = first.checked_add(place.first)?;
            width = place.width;
            if let Some(index) = index {
                let (element, size) = self.element(target)?;
                target = element;
                first = first.checked_add(index.checked_mul(size)?.checked_mul(8)?)?;
            }
            if names.peek().is_some() {
                structure = self.resolved(target).filter(|(_, head)| head.is_structure())?.0;
            }
        }
        Some(Place { first, width })
    }

    /// The member of this name, also of structures without a name inside; and its type.
    fn member(&self, structure: usize, name: &[u8], depth: usize) -> Option<(Place, u32)> {
        let head = self.head(structure).filter(|_| depth < DEEPEST)?;
        for at in (0..head.count).map(|index| structure + TYPE + index * MEMBER) {
            let (member, target, offset) = (
                number(self.section, at)?,
                number(self.section, at + 4)?,
                number(self.section, at + 8)?,
            );
            // With the flag the offset has the width of a bit field in its upper byte.
            let (first, width) = if head.flag {
                (offset & 0xff_ffff, Some(offset >> 24).filter(|width| *width > 0))
            } else {
                (offset, None)
            };
            let member = self.name(member);
            if member == name {
                return Some((Place { first, width }, target));
            }
            if member.is_empty()
                && let Some((inner, head)) = self.resolved(target)
                && head.is_structure()
                && let Some((found, target)) = self.member(inner, name, depth + 1)
            {
                let first = first.checked_add(found.first)?;
                return Some((Place { first, ..found }, target));
            }
        }
        None
    }

    /// Of an array, the type of an element, and its size in bytes.
    fn element(&self, array: u32) -> Option<(u32, u32)> {
        let (at, _) = self
            .resolved(array)
            .filter(|(_, head)| head.kind == kind::ARRAY)?;
        let element = number(self.section, at + TYPE)?;
        let (_, head) = self.resolved(element)?;
        let sized = head.is_structure() || matches!(head.kind, kind::INT | kind::ENUM | kind::ENUM64);
        sized.then_some((element, head.target))
    }

    /// The type behind names and qualifiers: where it begins, and its head.
    fn resolved(&self, mut id: u32) -> Option<(usize, Head)> {
        for _ in 0..DEEPEST {
            let at = *self.starts.get(usize::try_from(id).ok()?.checked_sub(1)?)? as usize;
            let head = self.head(at)?;
            match head.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = head.target;
                }
                _ => return Some((at, head)),
            }
        }
        None
    }

    fn head(&self, at: usize) -> Option<Head> {
        let [name, info, target] = [at, at + 4, at + 8].map(|at| number(self.section, at));
        let info = info?;
        Some(Head {
            name: name?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            flag: info >> 31 != 0,
            target: target?,
        })
    }

    /// A name; empty where there is none.
    fn name(&self, at: u32) -> &'a [u8] {
        let text = self.strings.get(at as usize..).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == 0);
        &text[..end.unwrap_or(text.len())]
    }

    /// BTF in which the functions and names of types that are `wanted` have the ids that they have here, and nothing
    /// else is told: all that it takes to find what a program is to be attached to, and read in a fraction of the time.
    /// It ends with the last of them.
    pub(super) fn outline(&self, wanted: &HashSet<&[u8]>) -> Vec<u8> {
        const PLACEHOLDER: [u32; 3] = [0, kind::FWD << 24, 0];
        let mut types = Vec::with_capacity(self.starts.len() * TYPE);
        // The first string is the empty one.
        let mut strings = vec![0];
        let mut end = 0;
        for start in &self.starts {
            let start = *start as usize;
            let is_named = |head: &Head| matches!(head.kind, kind::FUNC | kind::TYPEDEF);
            let head = self.head(start).filter(is_named);
            let name = head.map(|head| self.name(head.name));
            if let Some(name) = name.filter(|name| wanted.contains(name)) {
                types.extend_from_slice(&length(&strings).to_ne_bytes());
                types.extend_from_slice(&self.section[start + 4..start + TYPE]);
                strings.extend_from_slice(name);
                strings.push(0);
                end = types.len();
            } else {
                types.extend_from_slice(PLACEHOLDER.as_bytes());
            }
        }
        types.truncate(end);
        let header = self.header[..4].iter().copied();
        let sections = [HEADER_LENGTH, 0, length(&types), length(&types), length(&strings)];
        let head = header.chain(sections.as_bytes().iter().copied());
        head.chain(types).chain(strings).collect()
    }
}

/// A length as BTF has it. Nothing that is made here is longer than what it is made of, whose lengths are 32-bit numbers.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Head {
    fn is_structure(&self) -> bool {
        matches!(self.kind, kind::STRUCT | kind::UNION)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}
