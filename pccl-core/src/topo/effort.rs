//! How much a search may do: counted, not timed, so that equal arguments give equal results.

/// What is left of it, in elementary looks at a figure or a move: a hundred million are about a second. Whoever runs the
/// search can end it before.
pub struct Steps<'a> {
    left: u64,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Steps<'a> {
    /// `stop` is asked often, and says true for good.
    pub fn new(left: u64, stop: &'a dyn Fn() -> bool) -> Steps<'a> {
        Steps { left, stop }
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// Nobody waits for the result any more.
    pub fn are_stopped(&self) -> bool {
        (self.stop)()
    }

    /// What is not left is not spent.
    pub fn spend(&mut self, steps: u64) {
        self.left = if self.are_stopped() { 0 } else { self.left.saturating_sub(steps) };
    }

    /// Lets a search have at most so many of them; what it does not need stays.
    pub fn lend<R>(&mut self, most: u64, search: impl FnOnce(&mut Steps<'a>) -> R) -> R {
        let lent = most.min(self.left);
        let mut part = Steps { left: lent, stop: self.stop };
        let found = search(&mut part);
        self.spend(lent - part.left);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::Steps;

    #[test]
    fn what_is_lent_and_not_spent_comes_back() {
        let mut steps = Steps::new(100, &|| false);
        steps.lend(30, |part| {
            part.spend(10);
            assert_eq!(part.left(), 20);
        });
        assert_eq!(steps.left(), 90);
        steps.lend(1000, |part| part.spend(1000));
        assert_eq!(steps.left(), 0);
    }

    #[test]
    fn once_it_is_stopped_nothing_is_left() {
        let stopped = Cell::new(false);
        let stop = || stopped.get();
        let mut steps = Steps::new(100, &stop);
        steps.lend(50, |part| {
            part.spend(1);
            stopped.set(true);
            part.spend(1);
            assert_eq!(part.left(), 0);
        });
        assert_eq!((steps.left(), steps.are_stopped()), (0, true));
    }
}
