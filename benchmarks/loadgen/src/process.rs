//! What the processes of the server use, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use crate::error::Error;

/// A process and all that descend from it.
#[derive(Clone, Copy, Debug)]
pub struct ProcessTree {
    root: u32,
}

impl ProcessTree {
    /// Take the tree that a process is the root of.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such process.
    pub fn new(root: u32) -> Result<Self, Error> {
        match stat(root) {
            Some(_) => Ok(Self { root }),
            None => Err(Error::Usage(format!("there is no process {root}"))),
        }
    }

    /// CPU time that the tree has used until now; what counts is the difference of two of them.
    ///
    /// # Errors
    /// [`Error::Peer`] if the root has ended.
    pub fn cpu_time(&self) -> Result<CpuTime, Error> {
        let (mut ticks, mut threads) = (0, Some(BTreeMap::new()));
        for pid in self.processes()? {
            ticks += stat(pid).map_or(0, |stat| stat.ticks);
            threads = threads.and_then(|mut all: BTreeMap<_, _>| {
                all.extend(thread_times(pid)?);
                Some(all)
            });
        }
        Ok(CpuTime { microseconds: ticks * 1_000_000 / rustix::param::clock_ticks_per_second(), threads })
    }

    /// Resident memory of the tree in bytes. What processes share is counted in each.
    ///
    /// # Errors
    /// [`Error::Peer`] if the root has ended.
    pub fn rss_bytes(&self) -> Result<u64, Error> {
        Ok(self.processes()?.iter().filter_map(|pid| rss(*pid)).sum())
    }

    /// How many processes there are in the tree.
    ///
    /// # Errors
    /// [`Error::Peer`] if the root has ended.
    pub fn count(&self) -> Result<usize, Error> {
        Ok(self.processes()?.len())
    }

    fn processes(self) -> Result<Vec<u32>, Error> {
        if stat(self.root).is_none() {
            return Err(Error::Peer(format!("process {} has ended", self.root)));
        }
        let mut processes = vec![self.root];
        let mut parents = None;
        let mut next = 0;
        while let Some(&pid) = processes.get(next) {
            next += 1;
            if let Some(children) = children(pid) {
                processes.extend(children);
            } else {
                // A kernel without CONFIG_PROC_CHILDREN: look at every process once.
                let all = parents.get_or_insert_with(all_parents);
                processes.extend(all.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
            }
        }
        Ok(processes)
    }
}

/// CPU time of a tree, user and system time of all threads, told in two ways.
#[derive(Clone, Debug)]
pub struct CpuTime {
    /// From `/proc/<pid>/stat`: what ended threads and children that were waited for used is in it, but it is told in
    /// ticks, of 10 ms as a rule.
    microseconds: u64,
    /// From `/proc/<pid>/task/<tid>/schedstat`: nanoseconds of each thread; `None` if the kernel does not tell.
    threads: Option<BTreeMap<u32, u64>>,
}

impl CpuTime {
    /// Microseconds from `before` until this: exact if the threads that there were are still there.
    #[allow(clippy::cast_precision_loss)]
    pub fn since(&self, before: &Self) -> Option<f64> {
        if let (Some(now), Some(then)) = (&self.threads, &before.threads)
            && then.keys().all(|thread| now.contains_key(thread))
        {
            let nanoseconds = now.values().sum::<u64>().checked_sub(then.values().sum())?;
            return Some(nanoseconds as f64 / 1e3);
        }
        self.microseconds.checked_sub(before.microseconds).map(|microseconds| microseconds as f64)
    }
}

/// CPU time of this process in nanoseconds; `None` if the kernel does not tell. It has one thread only.
pub fn own_cpu_nanoseconds() -> Option<u64> {
    parse_schedstat(&fs::read_to_string("/proc/self/schedstat").ok()?)
}

/// The threads of a process with their CPU time in nanoseconds; `None` if the kernel does not tell it.
fn thread_times(pid: u32) -> Option<Vec<(u32, u64)>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let time = |thread: fs::DirEntry| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        Some((id, parse_schedstat(&fs::read_to_string(thread.path().join("schedstat")).ok()?)?))
    };
    threads.map(time).collect()
}

/// The first of three numbers: the time on a processor.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Children that the threads of a process have.
fn children(pid: u32) -> Option<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("children")).ok()?;
        children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Some(children)
}

/// Every process with its parent.
fn all_parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect()
}

/// What is wanted of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is a name in parentheses that may have spaces and parentheses itself; the third comes after.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // utime, stime, cutime, cstime
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some(Stat { parent: u32::try_from(number(4)?).ok()?, ticks })
}

fn rss(pid: u32) -> Option<u64> {
    // smaps_rollup is exact; statm may be behind by some pages for each thread.
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        && let Some(rss) = parse_smaps(&text)
    {
        return Some(rss);
    }
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn parse_smaps(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 100 1000 10";
        assert_eq!(parse_stat(line), Some(Stat { parent: 7, ticks: 110 }));
        assert_eq!(parse_stat("42 (a) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_rollup_is_in_kilobytes() {
        assert_eq!(parse_smaps("00400000-7fff [rollup]\nRss:            1234 kB\nPss: 1 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_smaps("Pss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_and_its_child_are_counted() {
        let tree = ProcessTree::new(std::process::id()).expect("it runs");
        let alone = tree.count().expect("it runs");
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("sleep exists");
        let with_child = tree.count();
        child.kill().expect("it runs");
        child.wait().expect("it is our child");
        assert_eq!(with_child.expect("it runs"), alone + 1);
        assert!(tree.rss_bytes().expect("it runs") > 100 * 1024);
    }

    #[test]
    fn work_is_told_more_exactly_than_in_ticks() {
        let mut shell = Command::new("sh")
            .args(["-c", "read go; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo done; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh exists");
        let tree = ProcessTree::new(shell.id()).expect("it runs");
        let before = tree.cpu_time().expect("it runs");
        let (mut to, mut from) = (shell.stdin.take().expect("piped"), shell.stdout.take().expect("piped"));
        to.write_all(b"go\n").expect("it reads");
        from.read_exact(&mut [0; 5]).expect("it says so");
        // The kernel adds up what a thread used when it leaves the processor, at the latest with its next tick.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let spent = tree.cpu_time().expect("it waits").since(&before).expect("time does not run back");
        drop(to);
        shell.wait().expect("it is our child");
        if before.threads.is_some() {
            assert!(spent > 0.0 && spent % 10_000.0 != 0.0, "{spent} us");
        }
    }

    #[test]
    fn ticks_count_where_a_thread_has_ended() {
        let time = |microseconds, threads: &[(u32, u64)]| CpuTime {
            microseconds,
            threads: Some(threads.iter().copied().collect()),
        };
        let before = time(10_000, &[(1, 5_000_000), (2, 1_000_000)]);
        assert_eq!(time(20_000, &[(1, 5_500_500), (2, 1_000_000), (3, 7_000)]).since(&before), Some(507.5));
        assert_eq!(time(20_000, &[(1, 5_500_500)]).since(&before), Some(10_000.0));
        let unknown = CpuTime { microseconds: 30_000, threads: None };
        assert_eq!(unknown.since(&before), Some(20_000.0));
        assert_eq!(before.since(&unknown), None);
    }

    #[test]
    fn a_schedstat_line_begins_with_the_time() {
        assert_eq!(parse_schedstat("1234567 89 10\n"), Some(1_234_567));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn a_process_that_there_is_not_is_an_error() {
        assert!(ProcessTree::new(u32::MAX).is_err());
    }
}
