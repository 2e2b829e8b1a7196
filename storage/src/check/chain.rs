//! Chains of clusters: followed, claimed, ended where they go wrong.

use lock_api::RawMutex;

use super::{Checker, Finding};
use crate::volume::VolumeError;

/// What could be claimed of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Clusters from the first on that are the chain's own now.
    pub(super) count: u32,
    /// The last of them; 0 without any.
    pub(super) last: u32,
    /// Why there were no more.
    pub(super) broken: Option<Finding>,
    /// It goes on behind what was wanted.
    pub(super) longer: bool,
}

impl<R: RawMutex> Checker<'_, R> {
    pub(super) fn entry(&mut self, cluster: u32) -> Result<u32, VolumeError> {
        self.medium.entry(&self.geometry, cluster)
    }

    pub(super) fn set_entry(&mut self, cluster: u32, value: u32) -> Result<(), VolumeError> {
        self.medium.set_entry(&self.geometry, cluster, value)
    }

    /// Marks a cluster as the last of its chain.
    pub(super) fn end_chain(&mut self, cluster: u32) -> Result<(), VolumeError> {
        self.set_entry(cluster, self.geometry.kind.end_of_chain())
    }

    /// Claims the chain that starts at `first`, up to `want` clusters of it.
    pub(super) fn claim_chain(&mut self, first: u32, want: u64) -> Result<Chain, VolumeError> {
        let mut chain = Chain { count: 0, last: 0, broken: None, longer: false };
        let mut cluster = first;
        loop {
            if u64::from(chain.count) >= want {
                chain.longer = true;
                break;
            }
            if !self.geometry.is_cluster(cluster) {
                chain.broken = Some(Finding::ChainBroken);
                break;
            }
            if !self.claimed.is_free(cluster) {
                let own = self.leads_back(first, chain.count, cluster)?;
                chain.broken = Some(if own { Finding::ChainLoop } else { Finding::CrossLinked });
                break;
            }
            self.claimed.take(cluster, 1);
            chain.count += 1;
            chain.last = cluster;
            if chain.count % 4096 == 0 {
                self.progress();
            }
            cluster = self.entry(cluster)?;
            if self.geometry.kind.is_end(cluster) {
                // exFAT knows one mark (4.1).
                if self.geometry.kind.is_exfat() && cluster != self.geometry.kind.end_of_chain() {
                    chain.broken = Some(Finding::ChainBroken);
                }
                break;
            }
        }
        Ok(chain)
    }

    /// Claims up to `want` clusters that follow each other from `first` on.
    pub(super) fn claim_run(&mut self, first: u32, want: u64) -> Chain {
        let (want, all) = match u32::try_from(want) {
            Ok(want) => (want, true),
            Err(_) => (u32::MAX, false),
        };
        let mut chain = Chain { count: 0, last: 0, broken: None, longer: false };
        if self.geometry.is_cluster(first) {
            chain.count = self.claimed.run_length(first - 2, want);
        }
        if chain.count > 0 {
            self.claimed.take(first, chain.count);
            chain.last = first + (chain.count - 1);
        }
        if chain.count < want || !all {
            let next = u64::from(first) + u64::from(chain.count);
            let on_volume = u32::try_from(next).is_ok_and(|next| self.geometry.is_cluster(next));
            chain.broken = Some(if on_volume { Finding::CrossLinked } else { Finding::ChainBroken });
        }
        chain
    }

    /// Whether `cluster` is among the first `count` of the chain from `first` on.
    fn leads_back(&mut self, first: u32, count: u32, cluster: u32) -> Result<bool, VolumeError> {
        let mut at = first;
        for _ in 0..count {
            if at == cluster {
                return Ok(true);
            }
            at = self.entry(at)?;
        }
        Ok(false)
    }
}
