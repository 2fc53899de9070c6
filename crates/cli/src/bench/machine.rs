//! What the machine tells: its clock, the processor time, the packets; and which cores are used.

use crate::{args::bench::Pin, failure::Usage};
use rustix::time::{ClockId, clock_gettime};
use std::net::IpAddr;

/// The machine's monotonic clock in nanoseconds: the same in all processes and namespaces.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The processor time that this process has used, in microseconds.
pub(super) fn cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1000
}

/// What this process keeps in memory, in kB; 0 where the system does not tell.
pub(super) fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The devices of the network namespace that carry the packets of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Devices {
    /// The loopback device.
    Loopback,
    /// All others.
    Others,
}

/// What devices have sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

impl Devices {
    /// Those for `HOST:PORT`.
    pub(super) fn of(address: &str) -> Self {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let local = ip.map_or(host == "localhost", |ip| ip.is_loopback());
        if local { Self::Loopback } else { Self::Others }
    }

    /// What they have sent until now; nothing where the system does not tell.
    pub(super) fn sent(self) -> Sent {
        self.sum(&std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default())
    }

    fn sum(self, table: &str) -> Sent {
        let mut sum = Sent::default();
        for line in table.lines() {
            let Some((name, columns)) = line.split_once(':') else { continue };
            if (name.trim() == "lo") != (self == Self::Loopback) {
                continue;
            }
            // Eight columns of what was received come first.
            let mut sent = columns.split_whitespace().skip(8).map_while(|text| text.parse().ok());
            sum.bytes += sent.next().unwrap_or(0);
            sum.packets += sent.next().unwrap_or(0);
        }
        sum
    }
}

impl Sent {
    /// What was sent since then.
    pub(super) fn since(self, before: Self) -> Self {
        let bytes = self.bytes.saturating_sub(before.bytes);
        Self { bytes, packets: self.packets.saturating_sub(before.packets) }
    }
}

/// How many cores this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Refuses what cannot be.
pub(super) fn check_pin(pin: Pin) -> Result<(), Usage> {
    if !cfg!(target_os = "linux") && pin != Pin::Any {
        return Err(Usage("--pin needs Linux; leave it out".into()));
    }
    if pin == Pin::Own && cores() < 2 {
        let reason = "--pin own needs two cores or more, and this process may use one only";
        return Err(Usage(format!("{reason}; take --pin one, or leave it out")));
    }
    Ok(())
}

/// Keeps this thread, and those that it starts from now on, on the core of node `index`.
#[cfg(target_os = "linux")]
pub(super) fn pin(pin: Pin, index: usize) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let nth = match pin {
        Pin::Any => return Ok(()),
        Pin::One => 0,
        Pin::Own => index,
    };
    let allowed = sched_getaffinity(None).context("cannot find out which cores there are")?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let mut own = CpuSet::new();
    own.set(cores[nth % cores.len()]);
    sched_setaffinity(None, &own).context("cannot stay on one core")
}

#[cfg(not(target_os = "linux"))]
pub(super) fn pin(_: Pin, _: usize) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo:     100       2    0    0    0     0          0         0      300       4    0    0
  eth0:    1000      20    0    0    0     0          0         0     3000      40    0    0
  eth1:       1       1    0    0    0     0          0         0        5       6    0    0
";

    #[test]
    fn the_devices_of_an_address_are_summed() {
        let sent = |bytes, packets| Sent { bytes, packets };
        assert_eq!(Devices::Loopback.sum(TABLE), sent(300, 4));
        assert_eq!(Devices::Others.sum(TABLE), sent(3005, 46));
        assert_eq!(Devices::Others.sum(""), sent(0, 0));
        assert_eq!(sent(5, 7).since(sent(3, 9)), sent(2, 0));
        for local in ["127.0.0.1:1", "127.7.0.1:1", "[::1]:1", "localhost:1"] {
            assert_eq!(Devices::of(local), Devices::Loopback, "{local}");
        }
        for other in ["10.77.0.1:7900", "host:1", "[fe80::1]:1"] {
            assert_eq!(Devices::of(other), Devices::Others, "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_stays_where_it_is_put() {
        let kept = std::thread::spawn(|| {
            pin(Pin::Own, 1).unwrap();
            std::thread::spawn(cores).join().unwrap()
        });
        assert_eq!(kept.join().unwrap(), 1);
    }
}
