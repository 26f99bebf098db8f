//! kallsyms, found in a kernel's image without any symbol to start from.
//!
//! scripts/kallsyms.c writes, each aligned to 8 (7.x: to 4): the number of symbols,
//! their names (a length, then that many indexes of tokens), a marker for every 256th
//! name, the table of 256 tokens, and the index into it. The addresses (offsets from a
//! base) lie before all this up to 6.3, and behind it since 6.4; in 7.x each is an
//! offset from the place where it stands. The token table gives itself away: the
//! tokens of '0' to '9' are those digits, in a row.

use object::{Object, ObjectSegment};

/// A symbol: name, address, and the letter that `nm` would show.
pub type Found = (String, u64, char);

/// All symbols of an ELF kernel; else why there are none.
pub fn find(image: &[u8]) -> Result<Vec<Found>, String> {
    find_where(image, |offset| {
        let file = object::File::parse(image).ok()?;
        let inside = |s: &object::Segment| {
            let (start, len) = s.file_range();
            (start..start.saturating_add(len)).contains(&offset).then(|| s.address().wrapping_add(offset - start))
        };
        file.segments().find_map(|s| inside(&s))
    })
}

/// The same, where `linked_at` knows the address that a byte of the file is linked to.
fn find_where(image: &[u8], linked_at: impl Fn(u64) -> Option<u64>) -> Result<Vec<Found>, String> {
    let tables = Tokens::candidates(image);
    let tokens = tables.first().ok_or("no kallsyms were found in it (CONFIG_KALLSYMS is off)")?;
    let names = names_before(image, tokens).ok_or("its kallsyms have a format that is not known here")?;
    let decoded = names.decode(image, tokens);
    let addresses = addresses_before(image, &names)
        .or_else(|| addresses_behind(image, tokens.end, names.count))
        .or_else(|| addresses_by_place(image, tokens.end, names.count, &linked_at))
        .ok_or("the addresses of its kallsyms were not found")?;
    Ok(decoded.into_iter().zip(addresses).map(|((name, kind), addr)| (name, addr, kind)).collect())
}

fn u16_at(image: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?).into())
}

fn u32_at(image: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(image: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(image.get(at..at + 8)?.try_into().ok()?))
}

/// The table of tokens and the index into it.
struct Tokens {
    start: usize,
    index: usize,
    /// Just behind the index.
    end: usize,
}

impl Tokens {
    fn candidates(image: &[u8]) -> Vec<Self> {
        const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
        let mut out = Vec::new();
        let mut from = 0;
        while let Some(at) = find_bytes(&image[from..], DIGITS).map(|at| at + from) {
            out.extend(Self::around(image, at));
            from = at + 1;
        }
        out
    }

    /// The table whose token of '0' is at `zero`.
    fn around(image: &[u8], zero: usize) -> Option<Self> {
        let mut end = zero;
        for _ in usize::from(b'0')..256 {
            end += image.get(end..end + 256)?.iter().position(|b| *b == 0)? + 1;
        }
        // The index is aligned; older kernels align to 4.
        [8, 4].into_iter().find_map(|align| {
            let index = end.next_multiple_of(align);
            let start = zero.checked_sub(u16_at(image, index + 2 * usize::from(b'0'))?)?;
            let sound = u16_at(image, index)? == 0
                && (0..255).all(|i| u16_at(image, index + 2 * i) < u16_at(image, index + 2 * i + 2));
            sound.then_some(Self { start, index, end: index + 512 })
        })
    }

    fn token<'a>(&self, image: &'a [u8], i: u8) -> &'a [u8] {
        let at = self.start + u16_at(image, self.index + 2 * usize::from(i)).unwrap_or(0);
        let rest = image.get(at..).unwrap_or(&[]);
        rest.split(|b| *b == 0).next().unwrap_or(&[])
    }
}

fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Where the names lie.
struct Names {
    /// The word that holds their number.
    at: usize,
    count: usize,
    first: usize,
}

impl Names {
    /// Length of the name at `at`, and where its tokens begin. Since 6.1 a length
    /// above 127 takes two bytes.
    fn entry(image: &[u8], at: usize) -> Option<(usize, usize)> {
        let low = usize::from(*image.get(at)?);
        match low & 0x80 {
            0 => Some((low, at + 1)),
            _ => Some((low & 0x7f | usize::from(*image.get(at + 1)?) << 7, at + 2)),
        }
    }

    /// Whether `count` names from `first` end where markers begin that fit them.
    fn fit(image: &[u8], first: usize, count: usize, limit: usize) -> Option<()> {
        let (mut at, mut marker) = (first, 0);
        for i in 0..count {
            if i == 256 {
                marker = at - first;
            }
            let (len, tokens) = Self::entry(image, at)?;
            if len == 0 {
                return None;
            }
            at = tokens + len;
            if at > limit {
                return None;
            }
        }
        [8, 4].into_iter().find_map(|align| {
            let markers = at.next_multiple_of(align);
            let fits = u32_at(image, markers)? == 0 && u32_at(image, markers + 4)? as usize == marker;
            fits.then_some(())
        })
    }

    fn decode(&self, image: &[u8], tokens: &Tokens) -> Vec<(String, char)> {
        let mut at = self.first;
        let mut out = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let Some((len, from)) = Self::entry(image, at) else { break };
            let text: Vec<u8> = image[from..from + len].iter().flat_map(|i| tokens.token(image, *i)).copied().collect();
            let (kind, name) = text.split_first().map_or((b'?', &[][..]), |(k, n)| (*k, n));
            out.push((String::from_utf8_lossy(name).into_owned(), char::from(kind)));
            at = from + len;
        }
        out
    }
}

/// The names that end before the token table.
fn names_before(image: &[u8], tokens: &Tokens) -> Option<Names> {
    const FARTHEST: usize = 32 << 20;
    let lowest = tokens.start.saturating_sub(FARTHEST);
    (lowest / 4..tokens.start / 4).rev().map(|i| i * 4).find_map(|at| {
        let count = u32_at(image, at)? as usize;
        if !(300..4_000_000).contains(&count) || tokens.start - at < count * 2 {
            return None;
        }
        // The names are aligned like everything else: 8 behind the number, or 4.
        [8, 4].into_iter().find_map(|gap| {
            let first = at + gap;
            Names::fit(image, first, count, tokens.start)?;
            Some(Names { at, count, first })
        })
    })
}

const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// Offsets and their base as they lie before the names (up to 6.3).
fn addresses_before(image: &[u8], names: &Names) -> Option<Vec<u64>> {
    let base_at = names.at.checked_sub(8)?;
    let start = base_at.checked_sub((names.count * 4).next_multiple_of(8))?;
    addresses(image, start, base_at, names.count)
}

/// Offsets and their base as they lie behind the token index (since 6.4).
fn addresses_behind(image: &[u8], end: usize, count: usize) -> Option<Vec<u64>> {
    let start = end.next_multiple_of(8);
    addresses(image, start, (start + count * 4).next_multiple_of(8), count)
}

/// Offsets from where each of them stands (7.x).
fn addresses_by_place(
    image: &[u8],
    end: usize,
    count: usize,
    linked_at: &impl Fn(u64) -> Option<u64>,
) -> Option<Vec<u64>> {
    let start = end.next_multiple_of(4);
    let place = linked_at(start as u64)?;
    let address = |i: usize| Some(place.wrapping_add(4 * i as u64).wrapping_add_signed(offset_at(image, start, i)?));
    let out: Vec<u64> = (0..count).map(address).collect::<Option<_>>()?;
    (is_sorted(&out) && out.first().is_some_and(|first| *first >= KERNEL)).then_some(out)
}

fn offset_at(image: &[u8], start: usize, i: usize) -> Option<i64> {
    Some(i64::from(u32_at(image, start + 4 * i)? as i32))
}

/// Whether nearly all are in order, as kallsyms' addresses are.
fn is_sorted(addresses: &[u64]) -> bool {
    let sorted = addresses.windows(2).filter(|w| w[0] <= w[1]).count();
    sorted * 100 >= addresses.len().saturating_sub(1) * 99
}

fn addresses(image: &[u8], start: usize, base_at: usize, count: usize) -> Option<Vec<u64>> {
    let base = u64_at(image, base_at)?;
    // Kernels that can be relocated leave the base to a relocation: it is then that
    // of the link all the same, since the packed image is linked where it says.
    if base < KERNEL {
        return None;
    }
    let raw: Vec<i32> = (0..count).map(|i| Some(u32_at(image, start + 4 * i)? as i32)).collect::<Option<_>>()?;
    // With CONFIG_KALLSYMS_ABSOLUTE_PERCPU what is not negative is an address of its
    // own, and the others count from the base, one below.
    let percpu = raw.iter().filter(|o| **o < 0).count() * 2 > raw.len();
    let address = |offset: &i32| match percpu {
        true if *offset < 0 => base.wrapping_sub(1).wrapping_add((-i64::from(*offset)) as u64),
        true => *offset as u64,
        false => base.wrapping_add(u64::from(*offset as u32)),
    };
    let out: Vec<u64> = raw.iter().map(address).collect();
    is_sorted(&out).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the addresses stand.
    #[derive(Clone, Copy, PartialEq)]
    enum Order {
        Before,
        Behind,
        ByPlace,
    }

    /// Where the image is linked to.
    const LINKED: u64 = KERNEL + 0x80_0000;

    /// An image with `count` names `f000000`, ..., whose tokens are single characters.
    fn image(order: Order) -> Vec<u8> {
        let count = 600usize;
        let mut out = vec![0xee; 64];
        let alignment = if order == Order::ByPlace { 4 } else { 8 };
        let align = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(alignment), 0);
        let addresses = |out: &mut Vec<u8>| {
            (0..count as u32).for_each(|i| out.extend((i * 16).to_le_bytes()));
            align(out);
            out.extend((KERNEL + 0x100_0000).to_le_bytes());
        };
        if order == Order::Before {
            addresses(&mut out);
        }
        out.extend((count as u32).to_le_bytes());
        align(&mut out);
        let mut markers = Vec::new();
        let first = out.len();
        for i in 0..count {
            if i % 256 == 0 {
                markers.push((out.len() - first) as u32);
            }
            let name = format!("Tf{i:06}");
            out.push(name.len() as u8);
            out.extend(name.bytes());
        }
        align(&mut out);
        markers.iter().for_each(|m| out.extend(m.to_le_bytes()));
        align(&mut out);
        let mut index = Vec::new();
        let table = out.len();
        for token in 0..=255u8 {
            index.push((out.len() - table) as u16);
            out.extend([token.max(1), 0]);
        }
        align(&mut out);
        index.iter().for_each(|i| out.extend(i.to_le_bytes()));
        align(&mut out);
        match order {
            Order::Before => {}
            Order::Behind => addresses(&mut out),
            Order::ByPlace => (0..count as u64).for_each(|i| {
                let (to, place) = (KERNEL + 0x100_0000 + i * 16, LINKED + out.len() as u64);
                out.extend((to.wrapping_sub(place) as u32).to_le_bytes());
            }),
        }
        out.extend([0; 64]);
        out
    }

    #[test]
    fn every_order_is_read() {
        for order in [Order::Before, Order::Behind, Order::ByPlace] {
            let found = find_where(&image(order), |offset| Some(LINKED + offset)).unwrap();
            assert_eq!(found.len(), 600);
            assert_eq!(found[300], ("f000300".into(), KERNEL + 0x100_0000 + 300 * 16, 'T'));
        }
    }

    #[test]
    fn an_image_without_them_says_so() {
        assert!(find(&[0; 4096]).unwrap_err().contains("CONFIG_KALLSYMS is off"));
    }
}
