//! Who may do what with a file: its permission bits, or the access control list in their place.
//!
//! A list is read and written in the form in which Linux keeps it (`linux/posix_acl_xattr.h`).
//! Other systems have permission bits only, here.

/// The permission to read, of one class.
#[cfg(any(target_os = "linux", test))]
pub(super) const READ: u32 = 4;
/// The permission to write, of one class.
#[cfg(any(target_os = "linux", test))]
pub(super) const WRITE: u32 = 2;

/// What each class of users may do: `READ`, `WRITE` and 1 (to execute or search), added up. The
/// mask of a list is applied already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccessList {
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) others: u32,
    /// Users and groups that are named besides.
    pub(super) named: Vec<Named>,
}

/// A user or group that a list names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// Users come before groups.
    pub(super) is_group: bool,
    pub(super) id: u32,
    pub(super) may: u32,
}

/// To whom a file belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Belongs {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl AccessList {
    /// What permission bits say.
    pub(super) fn of_mode(mode: u32) -> AccessList {
        let class = |shift: u32| (mode >> shift) & 7;
        AccessList { owner: class(6), group: class(3), others: class(0), named: Vec::new() }
    }

    /// The permission bits of a file with this list. Where users or groups are named the middle
    /// ones are the most that any of them, or the group, may do.
    pub(super) fn mode(&self) -> u32 {
        self.owner << 6 | self.mask() << 3 | self.others
    }

    fn mask(&self) -> u32 {
        self.named.iter().fold(self.group, |mask, named| mask | named.may)
    }

    /// What a file that belongs to `own` has to allow so that everybody whom this list of a file of
    /// `from` lets do something may do what `grant` makes of that. Its owner, who may be the one
    /// who makes it, may do what `owner` says.
    pub(super) fn carried(
        &self,
        from: Belongs,
        own: Belongs,
        owner: u32,
        grant: impl Fn(u32) -> u32,
    ) -> AccessList {
        let others = grant(self.others);
        let mut carried = AccessList { owner, group: others, others, named: Vec::new() };
        let is_root = |uid: u32| uid == 0;
        if from.uid != own.uid && !is_root(from.uid) {
            carried.name(false, from.uid, grant(self.owner));
        }
        match from.gid == own.gid {
            true => carried.group = grant(self.group),
            false if grant(self.group) != others => {
                carried.name(true, from.gid, grant(self.group));
            }
            false => {}
        }
        for named in self.named.iter().filter(|named| named.is_group || named.id != own.uid) {
            carried.name(named.is_group, named.id, grant(named.may));
        }
        carried.simplified()
    }

    /// What one or the other of them allows.
    pub(super) fn with(mut self, other: &AccessList) -> AccessList {
        self.owner |= other.owner;
        self.group |= other.group;
        self.others |= other.others;
        for named in &other.named {
            self.name(named.is_group, named.id, named.may);
        }
        self.simplified()
    }

    fn name(&mut self, is_group: bool, id: u32, may: u32) {
        let same = |named: &&mut Named| (named.is_group, named.id) == (is_group, id);
        match self.named.iter_mut().find(same) {
            Some(named) => named.may |= may,
            None => self.named.push(Named { is_group, id, may }),
        }
    }

    /// Without names where every class may do the same.
    fn simplified(mut self) -> AccessList {
        let is_like_others = |may: u32| may == self.others;
        if is_like_others(self.group) && self.named.iter().all(|named| is_like_others(named.may)) {
            self.named.clear();
        }
        self.named.sort_unstable();
        self
    }

    /// The same as well as permission bits can say it. `locks_nobody_out` lets all others do what
    /// those who are named may do.
    pub(super) fn without_names(&self, locks_nobody_out: bool) -> AccessList {
        let named = self.named.iter().filter(|_| locks_nobody_out);
        let others = named.fold(self.others, |others, named| others | named.may);
        AccessList { others, named: Vec::new(), ..self.clone() }
    }
}

/// What the form begins with.
#[cfg(target_os = "linux")]
const VERSION: u32 = 2;

/// How long an entry is: two bytes for whom it is, two for what he may do, and four for his id.
#[cfg(target_os = "linux")]
const ENTRY: usize = 8;

/// Whom an entry is for.
#[cfg(target_os = "linux")]
enum Tag {}

#[cfg(target_os = "linux")]
impl Tag {
    const OWNER: u16 = 0x01;
    const USER: u16 = 0x02;
    const OWN_GROUP: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    const OTHERS: u16 = 0x20;
}

#[cfg(target_os = "linux")]
impl AccessList {
    /// Reads a list. `None` for what is not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<AccessList> {
        let (version, entries) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY != 0 {
            return None;
        }
        let mut list = AccessList::of_mode(0);
        let mut mask = 7;
        for entry in entries.chunks_exact(ENTRY) {
            let (tag, rest) = entry.split_first_chunk::<2>()?;
            let (may, id) = rest.split_first_chunk::<2>()?;
            let may = u32::from(u16::from_le_bytes(*may)) & 7;
            let id = u32::from_le_bytes(*id.first_chunk::<4>()?);
            match u16::from_le_bytes(*tag) {
                Tag::OWNER => list.owner = may,
                Tag::USER => list.named.push(Named { is_group: false, id, may }),
                Tag::OWN_GROUP => list.group = may,
                Tag::GROUP => list.named.push(Named { is_group: true, id, may }),
                Tag::MASK => mask = may,
                Tag::OTHERS => list.others = may,
                _ => return None,
            }
        }
        list.group &= mask;
        list.named.iter_mut().for_each(|named| named.may &= mask);
        Some(list)
    }

    /// The list as the kernel takes it.
    pub(super) fn encode(&self) -> Vec<u8> {
        const NO_ID: u32 = u32::MAX;
        let mut bytes = VERSION.to_le_bytes().to_vec();
        let mut put = |tag: u16, may: u32, id: u32| {
            bytes.extend_from_slice(&tag.to_le_bytes());
            // Three bits.
            bytes.extend_from_slice(&((may & 7) as u16).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        };
        put(Tag::OWNER, self.owner, NO_ID);
        let users = self.named.iter().filter(|named| !named.is_group);
        users.for_each(|named| put(Tag::USER, named.may, named.id));
        put(Tag::OWN_GROUP, self.group, NO_ID);
        let groups = self.named.iter().filter(|named| named.is_group);
        groups.for_each(|named| put(Tag::GROUP, named.may, named.id));
        if !self.named.is_empty() {
            put(Tag::MASK, self.mask(), NO_ID);
        }
        put(Tag::OTHERS, self.others, NO_ID);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: u32 = 1001;
    const BEN: u32 = 1002;
    const TEAM: u32 = 5500;

    fn both(may: u32) -> u32 {
        if may & (READ | WRITE) == 0 { 0 } else { READ | WRITE }
    }

    fn belongs(uid: u32, gid: u32) -> Belongs {
        Belongs { uid, gid }
    }

    fn user(id: u32, may: u32) -> Named {
        Named { is_group: false, id, may }
    }

    #[test]
    fn each_class_that_may_read_or_write_may_do_both() {
        let own = belongs(ANNA, TEAM);
        for (mode, expected) in
            [(0o600, 0o600), (0o640, 0o660), (0o664, 0o666), (0o444, 0o666), (0o711, 0o600)]
        {
            let carried = AccessList::of_mode(mode).carried(own, own, 6, both);
            assert_eq!((carried.mode(), carried.named.len()), (expected, 0), "{mode:o}");
        }
    }

    #[test]
    fn an_owner_whose_the_file_cannot_be_made_is_named() {
        let (from, own) = (belongs(ANNA, TEAM), belongs(BEN, TEAM));
        let carried = AccessList::of_mode(0o640).carried(from, own, 6, both);
        assert_eq!((carried.group, carried.others), (6, 0));
        assert_eq!(carried.named, [user(ANNA, 6)]);
        // Every user may: none need be named.
        assert!(AccessList::of_mode(0o644).carried(from, own, 6, both).named.is_empty());
        // The superuser may anyway.
        let of_root = AccessList::of_mode(0o660).carried(belongs(0, TEAM), own, 6, both);
        assert!(of_root.named.is_empty());
    }

    #[test]
    fn a_group_that_the_file_cannot_get_is_named_and_its_own_gets_nothing() {
        let carried =
            AccessList::of_mode(0o660).carried(belongs(ANNA, TEAM), belongs(ANNA, ANNA), 6, both);
        assert_eq!(carried.group, 0);
        assert_eq!(carried.named, [Named { is_group: true, id: TEAM, may: 6 }]);
        let private =
            AccessList::of_mode(0o600).carried(belongs(ANNA, TEAM), belongs(ANNA, ANNA), 6, both);
        assert_eq!((private.mode(), private.named.len()), (0o600, 0));
    }

    #[test]
    fn what_is_there_is_never_taken_away() {
        let list = AccessList { named: vec![user(BEN, 4)], ..AccessList::of_mode(0o640) };
        let with = list.clone().with(&AccessList::of_mode(0o604));
        assert_eq!((with.group, with.others, with.named), (4, 4, vec![]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_list_is_what_it_was_when_it_has_been_written_and_read() {
        let list = AccessList {
            named: vec![user(ANNA, 6), user(BEN, 0), Named { is_group: true, id: TEAM, may: 4 }],
            ..AccessList::of_mode(0o640)
        };
        assert_eq!(AccessList::decode(&list.encode()), Some(list));
        let plain = AccessList::of_mode(0o664);
        assert_eq!(plain.encode().len(), 4 + 3 * 8);
        assert_eq!(AccessList::decode(&plain.encode()), Some(plain));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_mask_limits_the_group_and_all_that_are_named() {
        let mut bytes =
            AccessList { named: vec![user(BEN, 7)], ..AccessList::of_mode(0o670) }.encode();
        // The mask is the last entry but one.
        let mask = bytes.len() - 2 * 8 + 2;
        bytes[mask] = 4;
        let list = AccessList::decode(&bytes).unwrap();
        assert_eq!((list.group, list.named[0].may, list.mode()), (4, 4, 0o640));
        for length in 0..bytes.len() {
            assert!(
                (length.saturating_sub(4)) % 8 == 0
                    || AccessList::decode(&bytes[..length]).is_none()
            );
        }
    }
}
