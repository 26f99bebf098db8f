//! A power failure after any write of a campaign loses at most what was not promised to be on the
//! disk, and the campaign goes on to the same bytes.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use common::files;
use vmm::campaign::{self, Campaign};
use vmm::folder::{self, Disk, Options, Output, Real, Shard, Watcher};
use vmm::image::{Guest, Image};
use vmm::kvm::Host;

const CAMPAIGN: &str = r#"
name = "small"
schemes = ["naive"]
scenarios = ["quiet"]
generate = { schedules = ["nmi@kernel::scenario::work::run#1", "nmi@kernel::scenario::work::run+0x2#1", "nmi@kernel::scenario::work::run+0x4#1", "nmi@kernel::scenario::work::run#1 nmi@body#1"] }
[expect]
"#;

/// A change of the disk, of a file by its name.
#[derive(Clone, Debug)]
enum Op {
    Open { name: OsString, fresh: bool },
    Write { name: OsString, bytes: Vec<u8> },
    Sync { name: OsString },
    Rename { from: OsString, to: OsString },
    Remove { name: OsString },
    SyncDir,
}

/// Carries out each operation, and records it.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Op>>>);

impl Recorder {
    fn note(&self, op: Op) {
        self.0.lock().unwrap().push(op);
    }
}

fn name(path: &Path) -> OsString {
    path.file_name().unwrap().to_owned()
}

impl Disk for Recorder {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        Real.make_dir(dir)
    }

    fn open(&self, path: &Path, fresh: bool) -> io::Result<Box<dyn Output>> {
        self.note(Op::Open { name: name(path), fresh });
        Ok(Box::new(Recorded { recorder: self.clone(), name: name(path), file: Real.open(path, fresh)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Op::Rename { from: name(from), to: name(to) });
        Real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(Op::Remove { name: name(path) });
        Real.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note(Op::SyncDir);
        Real.sync_dir(dir)
    }
}

struct Recorded {
    recorder: Recorder,
    name: OsString,
    file: Box<dyn Output>,
}

impl Output for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.recorder.note(Op::Write { name: self.name.clone(), bytes: bytes.to_vec() });
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.recorder.note(Op::Sync { name: self.name.clone() });
        self.file.sync()
    }
}

/// A file's bytes: all, and those that a failure leaves for certain.
#[derive(Clone, Default)]
struct Inode {
    written: Vec<u8>,
    synced: Vec<u8>,
}

/// A folder as the kernel shows it, and as the disk has it for certain.
#[derive(Clone, Default)]
struct Folder {
    inodes: Vec<Inode>,
    names: BTreeMap<OsString, usize>,
    synced: BTreeMap<OsString, usize>,
}

/// Which bytes of a file are there.
type Bytes<'a> = &'a dyn Fn(&Inode) -> Vec<u8>;

/// What may be there after a failure: a folder's files.
type Remains = BTreeMap<OsString, Vec<u8>>;

impl Folder {
    /// A folder whose files have been there for long.
    fn of(files: &[(String, Vec<u8>)]) -> Self {
        let inodes = files.iter().map(|(_, bytes)| Inode { written: bytes.clone(), synced: bytes.clone() }).collect();
        let names: BTreeMap<_, _> = files.iter().enumerate().map(|(i, (name, _))| (name.into(), i)).collect();
        Self { inodes, synced: names.clone(), names }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Open { name, fresh } => {
                let new = self.inodes.len();
                let inode = *self.names.entry(name.clone()).or_insert(new);
                if inode == new {
                    self.inodes.push(Inode::default());
                } else if *fresh {
                    self.inodes[inode].written.clear();
                }
            }
            Op::Write { name, bytes } => self.inode(name).written.extend(bytes),
            Op::Sync { name } => {
                let inode = self.inode(name);
                inode.synced.clone_from(&inode.written);
            }
            Op::Rename { from, to } => {
                let inode = self.names.remove(from).expect("what is renamed is there");
                self.names.insert(to.clone(), inode);
            }
            Op::Remove { name } => drop(self.names.remove(name)),
            Op::SyncDir => self.synced = self.names.clone(),
        }
    }

    fn inode(&mut self, name: &OsString) -> &mut Inode {
        &mut self.inodes[self.names[name]]
    }

    /// What a failure may leave: names and bytes that were synced, or more of either.
    fn remains(&self) -> Vec<Remains> {
        let torn = |inode: &Inode| {
            let half = (inode.synced.len() + inode.written.len()) / 2;
            inode.written[..half.min(inode.written.len())].to_vec()
        };
        let of = |names: &BTreeMap<OsString, usize>, bytes: Bytes| {
            names.iter().map(|(name, i)| (name.clone(), bytes(&self.inodes[*i]))).collect::<Remains>()
        };
        let bytes: [Bytes; 3] = [&|i| i.synced.clone(), &|i| i.written.clone(), &torn];
        let mut all: Vec<_> = bytes.iter().flat_map(|b| [of(&self.synced, b), of(&self.names, b)]).collect();
        // Each name by itself may have got there or not.
        for name in self.names.keys().chain(self.synced.keys()) {
            let mut mixed = self.synced.clone();
            match self.names.get(name) {
                Some(inode) => drop(mixed.insert(name.clone(), *inode)),
                None => drop(mixed.remove(name)),
            }
            all.push(of(&mixed, bytes[0]));
        }
        all
    }
}

#[derive(Default)]
struct Quiet {
    damaged: usize,
    done: u64,
}

impl Watcher for Quiet {
    fn begin(&mut self, _: u64, done: u64) {
        self.done = done;
    }
    fn unit(&mut self, _: &str, _: &str, _: u64) {}
    fn damaged(&mut self, _: &str) {
        self.damaged += 1;
    }
    fn end(&mut self) {}
}

struct Lab {
    guest: Arc<Guest>,
    host: Host,
}

impl Lab {
    fn run(&self, text: &str, out: &Path, fresh: bool, disk: &dyn Disk) -> Result<Quiet, campaign::Error> {
        let stop = AtomicBool::new(false);
        let options = Options { jobs: 1, shard: Shard::WHOLE, out: Some(out), fresh, disk, stop: &stop };
        let mut watcher = Quiet::default();
        let campaign = Campaign::parse("campaign.toml", text).unwrap();
        campaign::run(campaign, &self.guest, &self.host, &options, &mut watcher)?;
        Ok(watcher)
    }

    /// Plays a failure after each change from `before` on. Returns how many there were, and the
    /// most units that one of them left.
    fn fail_everywhere(&self, before: Folder, ops: &[Op], good: &[(String, Vec<u8>)], fresh: bool) -> (usize, u64) {
        let (mut folder, mut seen, mut most) = (before, HashSet::new(), 0);
        for done in 0..=ops.len() {
            if done > 0 {
                folder.apply(&ops[done - 1]);
            }
            for remains in folder.remains() {
                if !seen.insert(remains.clone()) {
                    continue;
                }
                let dir = tempfile::tempdir().unwrap();
                for (name, bytes) in &remains {
                    fs::write(dir.path().join(name), bytes).unwrap();
                }
                let after = format!("after {done} of {} changes ({:?}), with {remains:?}", ops.len(), ops.get(done));
                match self.run(CAMPAIGN, dir.path(), false, &Real) {
                    Ok(ended) => {
                        assert_eq!(files(dir.path()), good, "{after}");
                        most = most.max(ended.done);
                    }
                    // The other campaign's folder is whole still, and named.
                    Err(campaign::Error::Folder(folder::Error::Results { why, .. }))
                        if fresh && why.contains("results of") => {}
                    Err(other) => panic!("{other}\n{after}"),
                }
            }
        }
        (seen.len(), most)
    }
}

fn lab() -> Lab {
    Lab { guest: Guest::new(Image::builtin().unwrap()), host: Host::open().expect("KVM") }
}

fn ops(recorder: &Recorder) -> Vec<Op> {
    recorder.0.lock().unwrap().clone()
}

#[test]
fn after_any_write_of_a_campaign() {
    let (lab, dir) = (lab(), tempfile::tempdir().unwrap());
    let (out, recorder) = (PathBuf::from(dir.path()), Recorder::default());
    lab.run(CAMPAIGN, &out, false, &recorder).unwrap();
    let good = files(&out);
    // The lock is not written by the disk that is recorded: it holds nothing.
    let before = Folder::of(&[("lock".into(), vec![])]);
    let (failures, kept) = lab.fail_everywhere(before, &ops(&recorder), &good, false);
    assert!(failures > 20, "{failures} failures only");
    assert_eq!(kept, 4, "what was kept is not run again");
}

#[test]
fn after_any_write_where_another_campaign_is_thrown_away() {
    let (lab, dir) = (lab(), tempfile::tempdir().unwrap());
    let (out, recorder) = (PathBuf::from(dir.path()), Recorder::default());
    let other = CAMPAIGN.replace("+0x4#1", "+0x6#1").replace("small", "another");
    lab.run(&other, &out, false, &Real).unwrap();
    let before = Folder::of(&files(&out));
    lab.run(CAMPAIGN, &out, true, &recorder).unwrap();
    let (failures, _) = lab.fail_everywhere(before, &ops(&recorder), &files(&out), true);
    assert!(failures > 20, "{failures} failures only");
}

/// Else the tests above would pass for another reason: where files are not synced before they are
/// renamed, a failure leaves results that are wrong, or none.
#[test]
fn a_disk_that_does_not_sync_is_noticed() {
    let (lab, dir) = (lab(), tempfile::tempdir().unwrap());
    let recorder = Recorder::default();
    lab.run(CAMPAIGN, dir.path(), false, &recorder).unwrap();
    let mut folder = Folder::of(&[]);
    ops(&recorder).iter().filter(|op| !matches!(op, Op::Sync { .. })).for_each(|op| folder.apply(op));
    let certain = &folder.remains()[0];
    assert!(["campaign.json", "units.jsonl"].iter().all(|name| certain[&OsString::from(name)].is_empty()));
}
