//! What was measured of a group's network, by member.

/// Figures of N members by index. A pair or machine that nobody measured has none; what is assumed then, `Network`
/// says.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    members: usize,
    bytes_per_second: Vec<Option<f64>>,
    delay_us: Vec<Option<u32>>,
    linked: Vec<bool>,
    up: Vec<Option<f64>>,
    down: Vec<Option<f64>>,
    hosts: Vec<usize>,
}

impl Figures {
    /// Nothing is known of these members but that all pairs have a link.
    pub fn new(members: usize) -> Figures {
        let pairs = members * members;
        Figures {
            members,
            bytes_per_second: vec![None; pairs],
            delay_us: vec![None; pairs],
            linked: vec![true; pairs],
            up: vec![None; members],
            down: vec![None; members],
            hosts: (0..members).collect(),
        }
    }

    pub fn members(&self) -> usize {
        self.members
    }

    fn at(&self, from: usize, to: usize) -> usize {
        assert!(from < self.members && to < self.members, "figures are of members");
        from * self.members + to
    }

    /// What a path carries alone. What is no positive number is no figure.
    pub fn set_bandwidth(&mut self, from: usize, to: usize, bytes_per_second: f64) {
        let at = self.at(from, to);
        self.bytes_per_second[at] = rate(bytes_per_second);
    }

    /// Half the round trip, of both directions.
    pub fn set_delay(&mut self, a: usize, b: usize, us: u32) {
        let (there, back) = (self.at(a, b), self.at(b, a));
        (self.delay_us[there], self.delay_us[back]) = (Some(us), Some(us));
    }

    /// What a machine sends to all others together.
    pub fn set_up(&mut self, member: usize, bytes_per_second: f64) {
        self.up[member] = rate(bytes_per_second);
    }

    /// What a machine receives from all others together.
    pub fn set_down(&mut self, member: usize, bytes_per_second: f64) {
        self.down[member] = rate(bytes_per_second);
    }

    /// This member is on one host, or behind one address, with another one, the first there.
    pub fn set_host(&mut self, member: usize, first: usize) {
        assert!(member < self.members && first < self.members, "figures are of members");
        self.hosts[member] = first;
    }

    /// Equal for members of one host.
    pub fn host(&self, member: usize) -> usize {
        self.hosts[member]
    }

    /// No schedule may use this pair.
    pub fn unlink(&mut self, a: usize, b: usize) {
        let (there, back) = (self.at(a, b), self.at(b, a));
        (self.linked[there], self.linked[back]) = (false, false);
    }

    pub fn bandwidth(&self, from: usize, to: usize) -> Option<f64> {
        self.bytes_per_second[self.at(from, to)]
    }

    pub(super) fn bandwidths(&mut self) -> impl Iterator<Item = &mut f64> {
        self.bytes_per_second.iter_mut().flatten()
    }

    pub fn delay_us(&self, a: usize, b: usize) -> Option<u32> {
        self.delay_us[self.at(a, b)]
    }

    pub fn up(&self, member: usize) -> Option<f64> {
        self.up[member]
    }

    pub fn down(&self, member: usize) -> Option<f64> {
        self.down[member]
    }

    pub fn linked(&self, a: usize, b: usize) -> bool {
        self.linked[self.at(a, b)]
    }
}

fn rate(bytes_per_second: f64) -> Option<f64> {
    (bytes_per_second.is_finite() && bytes_per_second > 0.0).then_some(bytes_per_second)
}
