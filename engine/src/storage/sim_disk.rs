//! A disk held twice in memory: as programs see it, and as it is found after the power went. `sim` states its rules.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::sim::Crash;
use super::sim_content::{BLOCK_BYTES, Block, Chance, Change, Content, Data, Fate};

/// A file or directory, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node(u64);

impl Node {
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

const ROOT: Node = Node(0);

/// What changes a disk.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// One that failed before it did anything.
    Nothing,
    Create(PathBuf),
    MakeDirectory(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveDirectory(PathBuf),
    SyncDirectory(PathBuf),
    Write {
        file: Node,
        position: u64,
        data: Data,
    },
    SetLen {
        file: Node,
        len: u64,
    },
    Sync(Node),
    /// Fails, though some of what was written gets there; the rest counts as written and is never tried again.
    FailSync {
        file: Node,
        seed: u64,
    },
    FlipBit {
        file: Node,
        position: u64,
        bit: u8,
    },
}

impl Op {
    /// Whether it only makes earlier ones last.
    pub(super) fn is_sync(&self) -> bool {
        matches!(
            self,
            Self::Sync(_) | Self::SyncDirectory(_) | Self::FailSync { .. }
        )
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    /// As programs see it.
    cached: Content,
    /// What was synced.
    durable: Content,
    /// What leads from the one to the other.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
struct Directory {
    cached: BTreeMap<OsString, Node>,
    durable: BTreeMap<OsString, Node>,
}

#[derive(Clone, Debug)]
enum Inode {
    File(Arc<File>),
    Directory(Arc<Directory>),
}

/// A name that is given, given to another, or taken away.
#[derive(Clone, Debug)]
struct Naming {
    directory: Node,
    name: OsString,
    node: Option<Node>,
}

/// A change of names that is there whole or not at all. A rename gives the new name first, then takes the old one.
type NameChange = Vec<Naming>;

#[derive(Clone, Debug)]
pub(super) struct Disk {
    inodes: BTreeMap<Node, Inode>,
    next: u64,
    /// Changes of names that no sync of their directory has followed yet, in order.
    unsynced: Vec<NameChange>,
}

impl Disk {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            inodes: [(ROOT, Inode::Directory(Arc::default()))].into(),
            next: 1,
            unsynced: Vec::new(),
        }
    }

    /// Does it; says which file was created.
    pub(super) fn apply(&mut self, op: &Op) -> io::Result<Option<Node>> {
        match op {
            Op::Nothing => {}
            Op::Create(path) => {
                let inode = Inode::File(Arc::default());
                return self.add(path, inode).map(Some);
            }
            Op::MakeDirectory(path) => {
                self.add(path, Inode::Directory(Arc::default()))?;
            }
            Op::Rename(from, to) => self.rename(from, to)?,
            Op::Link(from, to) => {
                let node = self.file(from)?;
                let naming = self.naming(to, Some(node))?;
                self.free_name(&naming)?;
                self.change_names(vec![naming]);
            }
            Op::Remove(path) => {
                self.file(path)?;
                let naming = self.naming(path, None)?;
                self.change_names(vec![naming]);
            }
            Op::RemoveDirectory(path) => {
                let node = self.directory(path)?;
                if !self.names(node)?.cached.is_empty() {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                let naming = self.naming(path, None)?;
                self.change_names(vec![naming]);
            }
            Op::SyncDirectory(path) => {
                let node = self.directory(path)?;
                self.sync_directory(node);
            }
            Op::Write {
                file,
                position,
                data,
            } => {
                let (position, data) = (*position, data.clone());
                self.change(*file, Change::Write { position, data })?;
            }
            Op::SetLen { file, len } => self.change(*file, Change::SetLen(*len))?,
            Op::Sync(file) => {
                let file = self.content_mut(*file)?;
                for change in std::mem::take(&mut file.unsynced) {
                    file.durable.apply(&change);
                }
            }
            Op::FailSync { file, seed } => self.fail_sync(*file, *seed)?,
            Op::FlipBit {
                file,
                position,
                bit,
            } => {
                let file = self.content_mut(*file)?;
                file.cached.flip(*position, *bit);
                file.durable.flip(*position, *bit);
            }
        }
        Ok(None)
    }

    /// What has a name.
    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = ROOT;
        for name in names(path) {
            node = *self
                .names(node)?
                .cached
                .get(name)
                .ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<Node> {
        let node = self.find(path)?;
        if self.is_directory(node) {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(node)
    }

    pub(super) fn is_directory(&self, node: Node) -> bool {
        matches!(self.inodes.get(&node), Some(Inode::Directory(_)))
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let node = self.find(path)?;
        Ok(self.names(node)?.cached.keys().cloned().collect())
    }

    /// The bytes of a file as programs see them.
    pub(super) fn content(&self, node: Node) -> io::Result<&Content> {
        match self.inodes.get(&node) {
            Some(Inode::File(file)) => Ok(&file.cached),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Space taken by files that have a name. There are no sparse files.
    pub(super) fn used_bytes(&self) -> u64 {
        let blocks = |inode: &Inode| match inode {
            Inode::File(file) => file.cached.len().div_ceil(BLOCK_BYTES),
            Inode::Directory(_) => 1,
        };
        let named = self.reachable(|directory| &directory.cached);
        let named = named.iter().filter_map(|node| self.inodes.get(node));
        named.map(blocks).sum::<u64>() * BLOCK_BYTES
    }

    /// The disk as it is found after a crash. If the power went, all that is there is durable.
    pub(super) fn crash(&self, crash: Crash) -> Self {
        let mut disk = self.clone();
        let blocks: Vec<Block>;
        let mut fate = match crash {
            Crash::Kill { .. } => return disk,
            Crash::LoseAll => None,
            Crash::PowerLoss { seed, torn_blocks } => {
                blocks = self.all_blocks();
                Some(Fate {
                    chance: Chance::new(seed),
                    torn_blocks,
                    blocks: &blocks,
                })
            }
        };
        if let Some(fate) = &mut fate {
            let kept = disk.surviving_names(&mut fate.chance);
            kept.iter()
                .flatten()
                .for_each(|naming| disk.make_durable(naming));
        }
        disk.unsynced.clear();
        for inode in disk.inodes.values_mut() {
            match inode {
                Inode::Directory(directory) => {
                    let directory = Arc::make_mut(directory);
                    directory.cached.clone_from(&directory.durable);
                }
                Inode::File(file) => {
                    let file = Arc::make_mut(file);
                    let unsynced = std::mem::take(&mut file.unsynced);
                    if let Some(fate) = &mut fate {
                        fate.land(&mut file.durable, &unsynced);
                    }
                    file.cached = file.durable.clone();
                }
            }
        }
        let named = disk.reachable(|directory| &directory.durable);
        disk.inodes.retain(|node, _| named.contains(node));
        disk
    }

    fn all_blocks(&self) -> Vec<Block> {
        let files = self.inodes.values().filter_map(|inode| match inode {
            Inode::File(file) => Some(file),
            Inode::Directory(_) => None,
        });
        files
            .flat_map(|file| file.cached.blocks().cloned())
            .collect()
    }

    /// Chooses which changes of names outlive a crash. Those of one name came to the disk in their order: none is kept
    /// after one that is lost.
    fn surviving_names(&self, chance: &mut Chance) -> Vec<NameChange> {
        // Some crashes lose much, some little.
        let keeps = 1 + chance.below(4);
        let mut lost: HashSet<(Node, &OsStr)> = HashSet::new();
        let mut kept = Vec::new();
        for change in &self.unsynced {
            let unlucky = chance.below(5) >= keeps;
            let names = change.iter().map(|n| (n.directory, n.name.as_os_str()));
            if unlucky || names.clone().any(|name| lost.contains(&name)) {
                lost.extend(names);
            } else {
                kept.push(change.clone());
            }
        }
        kept
    }

    fn reachable(&self, names: impl Fn(&Directory) -> &BTreeMap<OsString, Node>) -> BTreeSet<Node> {
        let mut found = BTreeSet::from([ROOT]);
        let mut queue = vec![ROOT];
        while let Some(node) = queue.pop() {
            if let Some(Inode::Directory(directory)) = self.inodes.get(&node) {
                queue.extend(
                    names(directory)
                        .values()
                        .filter(|node| found.insert(**node)),
                );
            }
        }
        found
    }

    fn names(&self, node: Node) -> io::Result<&Directory> {
        match self.inodes.get(&node) {
            Some(Inode::Directory(directory)) => Ok(directory),
            Some(Inode::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn names_mut(&mut self, node: Node) -> Option<&mut Directory> {
        match self.inodes.get_mut(&node) {
            Some(Inode::Directory(directory)) => Some(Arc::make_mut(directory)),
            _ => None,
        }
    }

    fn directory(&self, path: &Path) -> io::Result<Node> {
        let node = self.find(path)?;
        self.names(node).map(|_| node)
    }

    fn content_mut(&mut self, node: Node) -> io::Result<&mut File> {
        match self.inodes.get_mut(&node) {
            Some(Inode::File(file)) => Ok(Arc::make_mut(file)),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn naming(&self, path: &Path, node: Option<Node>) -> io::Result<Naming> {
        let name = names(path).last().ok_or(ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok(Naming {
            directory: self.directory(parent)?,
            name: name.to_owned(),
            node,
        })
    }

    fn free_name(&self, naming: &Naming) -> io::Result<()> {
        match self.names(naming.directory)?.cached.get(&naming.name) {
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
            None => Ok(()),
        }
    }

    fn add(&mut self, path: &Path, inode: Inode) -> io::Result<Node> {
        let node = Node(self.next);
        let naming = self.naming(path, Some(node))?;
        self.free_name(&naming)?;
        self.next += 1;
        self.inodes.insert(node, inode);
        self.change_names(vec![naming]);
        Ok(node)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let given = self.naming(to, Some(node))?;
        let taken = self.naming(from, None)?;
        if let Ok(replaced) = self.find(to) {
            // Two names of one file stay two names.
            if replaced == node {
                return Ok(());
            }
            match (self.is_directory(node), self.is_directory(replaced)) {
                (false, false) => {}
                (true, true) if self.names(replaced)?.cached.is_empty() => {}
                (true, true) => return Err(ErrorKind::DirectoryNotEmpty.into()),
                (false, true) => return Err(ErrorKind::IsADirectory.into()),
                (true, false) => return Err(ErrorKind::NotADirectory.into()),
            }
        }
        self.change_names(vec![given, taken]);
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) {
        for naming in &change {
            if let Some(directory) = self.names_mut(naming.directory) {
                set(&mut directory.cached, naming);
            }
        }
        self.unsynced.push(change);
    }

    fn make_durable(&mut self, naming: &Naming) {
        if let Some(directory) = self.names_mut(naming.directory) {
            set(&mut directory.durable, naming);
        }
    }

    /// Makes the names in a directory durable. Of a rename into another one this is not asked; of one from another one,
    /// the old name may still come back. What those changes build on becomes durable with them.
    fn sync_directory(&mut self, node: Node) {
        let mut built_on: HashSet<(Node, OsString)> = HashSet::new();
        // From the last change to the first: those made durable, and those that wait for another directory.
        let (mut durable, mut waiting) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.unsynced).into_iter().rev() {
            let key = |naming: &Naming| (naming.directory, naming.name.clone());
            let here = change.first().is_some_and(|given| given.directory == node);
            if !here && !change.iter().any(|naming| built_on.contains(&key(naming))) {
                waiting.push(change);
                continue;
            }
            let names: Vec<_> = change.iter().map(key).collect();
            let waits = |naming: &Naming| {
                here && naming.directory != node && !built_on.contains(&key(naming))
            };
            let (later, now): (NameChange, NameChange) = change.into_iter().partition(waits);
            if !later.is_empty() {
                waiting.push(later);
            }
            durable.extend(now);
            built_on.extend(names);
        }
        durable
            .iter()
            .rev()
            .for_each(|naming| self.make_durable(naming));
        waiting.reverse();
        self.unsynced = waiting;
    }

    fn change(&mut self, file: Node, change: Change) -> io::Result<()> {
        let file = self.content_mut(file)?;
        // Of a write that failed, or that a crash interrupted, perhaps nothing is left.
        if matches!(&change, Change::Write { data, .. } if data.len() == 0) {
            return Ok(());
        }
        file.cached.apply(&change);
        file.unsynced.push(change);
        Ok(())
    }

    fn fail_sync(&mut self, file: Node, seed: u64) -> io::Result<()> {
        let mut fate = Fate {
            chance: Chance::new(seed),
            torn_blocks: false,
            blocks: &[],
        };
        let file = self.content_mut(file)?;
        let changes = std::mem::take(&mut file.unsynced);
        fate.land(&mut file.durable, &changes);
        // Pages that count as clean may be dropped from memory, and are read from the disk when they are needed again.
        if fate.chance.one_in(2) {
            file.cached = file.durable.clone();
        }
        Ok(())
    }
}

fn set(names: &mut BTreeMap<OsString, Node>, naming: &Naming) {
    match naming.node {
        Some(node) => names.insert(naming.name.clone(), node),
        None => names.remove(&naming.name),
    };
}

/// The names on the way to a path. Relative paths start at the root too.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}
