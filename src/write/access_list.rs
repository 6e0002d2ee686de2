//! Access control lists as Linux gives them: what the permission bits say in them, and what is left
//! of them in permission bits alone.
//!
//! In a file that has a list, the group's permission bits are no rights of the group: they are the
//! mask, the most that any entry of the list gives, apart from those of the owner and of others.
//! So copying the bits and not the list would give the group what it never had.

/// The version of the format, which all lists begin with.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();

/// How many bytes an entry has: what it is for, the rights, and a user or a group.
const ENTRY: usize = 8;

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const OTHER_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// An entry: what it is for, and the rights.
type Entry = (u16, u16);

/// The entries, if it is a list of this format.
fn entries(list: &[u8]) -> Option<Vec<Entry>> {
    let (chunks, rest) = list.strip_prefix(&VERSION)?.as_chunks::<ENTRY>();
    let entry = |[a, b, c, d, ..]: &[u8; ENTRY]| {
        (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]))
    };
    rest.is_empty().then(|| chunks.iter().map(entry).collect())
}

/// The list with these permission bits, as if the file were given them. `None` if it is no list of
/// this format.
pub(super) fn with_mode(list: &[u8], mode: u32) -> Option<Vec<u8>> {
    let entries = entries(list)?;
    let has_mask = entries.iter().any(|(tag, _)| *tag == MASK);
    let rights = |tag: u16| match tag {
        OWNER => Some(mode >> 6),
        MASK => Some(mode >> 3),
        GROUP if !has_mask => Some(mode >> 3),
        OTHERS => Some(mode),
        _ => None,
    };
    let mut bytes = list.to_owned();
    let (_, all) = bytes.split_at_mut_checked(VERSION.len())?;
    for (chunk, (tag, _)) in all.as_chunks_mut::<ENTRY>().0.iter_mut().zip(entries) {
        let [_, _, low, high, ..] = chunk;
        if let Some(rights) = rights(tag).and_then(|bits| u16::try_from(bits & 0o7).ok()) {
            [*low, *high] = rights.to_le_bytes();
        }
    }
    Some(bytes)
}

/// The permission bits that a file may have without its list, so that no user and no group gets
/// what it did not have with it.
pub(super) fn without_list(list: &[u8], mode: u32) -> u32 {
    let Some(entries) = entries(list) else { return without_unknown_list(mode) };
    let mask = (mode >> 3) & 0o7;
    let (mut group, mut others) = (mask, mode & 0o7);
    for (tag, rights) in entries {
        let rights = u32::from(rights);
        match tag {
            GROUP => group &= rights,
            // Such a user may be in the group, or not.
            USER => {
                group &= rights;
                others &= rights & mask;
            }
            OTHER_GROUP => others &= rights & mask,
            _ => {}
        }
    }
    (mode & !0o077) | (group << 3) | others
}

/// The same where it is not known what the list says: the group gets no more than all others have.
pub(super) fn without_unknown_list(mode: u32) -> u32 {
    mode & !(0o070 & !((mode & 0o7) << 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        for (tag, rights, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&rights.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    const NONE: u32 = u32::MAX;

    /// `user::rw-,user:1000:rw-,group::---,mask::rw-,other::---`
    fn shared_with_one() -> Vec<u8> {
        list(&[
            (OWNER, 6, NONE),
            (USER, 6, 1000),
            (GROUP, 0, NONE),
            (MASK, 6, NONE),
            (OTHERS, 0, NONE),
        ])
    }

    #[test]
    fn the_permission_bits_of_a_file_with_a_list_are_its_mask() {
        let narrower = with_mode(&shared_with_one(), 0o640).unwrap();
        let entries = [
            (OWNER, 6, NONE),
            (USER, 6, 1000),
            (GROUP, 0, NONE),
            (MASK, 4, NONE),
            (OTHERS, 0, NONE),
        ];
        assert_eq!(narrower, list(&entries));
    }

    #[test]
    fn without_a_mask_they_are_those_of_the_group() {
        let plain = list(&[(OWNER, 6, NONE), (GROUP, 4, NONE), (OTHERS, 4, NONE)]);
        assert_eq!(
            with_mode(&plain, 0o751).unwrap(),
            list(&[(OWNER, 7, NONE), (GROUP, 5, NONE), (OTHERS, 1, NONE)])
        );
    }

    #[test]
    fn a_group_that_had_no_access_gets_none_when_the_list_is_lost() {
        assert_eq!(without_list(&shared_with_one(), 0o660), 0o600);
        assert_eq!(without_list(&shared_with_one(), 0o4660), 0o4600);
    }

    #[test]
    fn users_and_groups_that_had_less_than_others_do_not_get_more() {
        let user = list(&[
            (OWNER, 6, NONE),
            (USER, 0, 1000),
            (GROUP, 4, NONE),
            (MASK, 4, NONE),
            (OTHERS, 4, NONE),
        ]);
        assert_eq!(without_list(&user, 0o644), 0o600);
        let group = list(&[
            (OWNER, 6, NONE),
            (GROUP, 4, NONE),
            (OTHER_GROUP, 0, 50),
            (MASK, 4, NONE),
            (OTHERS, 4, NONE),
        ]);
        assert_eq!(without_list(&group, 0o644), 0o640);
    }

    #[test]
    fn a_list_that_cannot_be_read_leaves_the_group_what_others_have() {
        assert_eq!(without_list(b"nonsense", 0o664), 0o644);
        assert_eq!(without_list(b"", 0o660), 0o600);
        assert_eq!(without_unknown_list(0o666), 0o666);
        assert!(with_mode(b"nonsense", 0o600).is_none());
        let mut cut = shared_with_one();
        cut.pop();
        assert!(with_mode(&cut, 0o600).is_none());
    }
}
