//! What copies may cost. Pure: time is an argument.
//!
//! The limit of a day is not there at once: it accrues over the day (UTC), from nothing, for as long as this process runs. So the pods
//! of a gateway keep to the limit together without asking each other, however many are replaced or restarted: each lives through a part
//! of the day, and that part is all it has. What was not spent by midnight is gone.

/// A day in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// The money of one pod, in millionths of a micro-unit of the currency.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    /// What accrues in a day now.
    daily: u64,
    day: u64,
    at: u64,
    /// What has accrued and is neither spent nor reserved, times the milliseconds of a day: so nothing is lost to rounding. Below
    /// nothing after a copy that cost more than was reserved.
    credit: i128,
    spent: u64,
}

/// Money that was set aside for one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Hold {
    cost: u64,
    day: u64,
}

impl Budget {
    /// Without money, at this time.
    pub fn new(now_ms: u64) -> Self {
        Self { day: now_ms / DAY, at: now_ms, ..Self::default() }
    }

    /// Takes note of the time, and of what may be spent in a day from now on. Of two limits the lower one counts for the time between.
    pub fn tick(&mut self, daily: u64, now_ms: u64) {
        let day = now_ms / DAY;
        if day > self.day {
            *self = Self { day, at: day * DAY, daily: self.daily, ..Self::default() };
        }
        // A clock that was put back gives nothing.
        let elapsed = now_ms.saturating_sub(self.at);
        self.credit += i128::from(self.daily.min(daily)) * i128::from(elapsed);
        // A lower limit holds for what was spent under the higher one, too.
        let left = i128::from(daily.saturating_sub(self.spent)) * i128::from(DAY);
        self.credit = self.credit.min(left);
        self.at = self.at.max(now_ms);
        self.daily = daily;
    }

    /// Sets aside the most that a copy can cost, if so much has accrued.
    pub fn reserve(&mut self, cost: u64) -> Option<Hold> {
        let wanted = i128::from(cost) * i128::from(DAY);
        // Without a limit there is no shadow, whatever is left of before.
        if self.daily == 0 || wanted > self.credit {
            return None;
        }
        self.credit -= wanted;
        Some(Hold { cost, day: self.day })
    }

    /// Puts what it did cost in the place of what was set aside.
    pub fn settle(&mut self, hold: Hold, cost: u64) {
        if hold.day == self.day {
            self.credit += i128::from(hold.cost) * i128::from(DAY);
        }
        self.credit -= i128::from(cost) * i128::from(DAY);
        self.spent = self.spent.saturating_add(cost);
    }

    /// Takes over what this pod spent before its container was restarted: for the report, as money begins with nothing anyway.
    pub fn recall(&mut self, day: u64, spent: u64) {
        if day == self.day {
            self.spent = self.spent.saturating_add(spent);
        }
    }

    /// What may be spent in a day.
    pub const fn daily(&self) -> u64 {
        self.daily
    }

    /// The day, counted from the Unix epoch, and what was spent in it.
    pub const fn spent(&self) -> (u64, u64) {
        (self.day, self.spent)
    }

    /// What may be spent now.
    pub fn left(&self) -> u64 {
        u64::try_from(self.credit / i128::from(DAY)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 100 * DAY + DAY / 2;

    fn at_noon(daily: u64) -> Budget {
        let mut budget = Budget::new(NOON);
        budget.tick(daily, NOON);
        budget
    }

    #[test]
    fn money_accrues_with_the_time_that_the_pod_lives() {
        let mut budget = at_noon(24_000);
        assert_eq!(budget.reserve(1), None);
        budget.tick(24_000, NOON + 3_600_000);
        assert_eq!(budget.left(), 1_000);
        assert!(budget.reserve(1_001).is_none());
        assert!(budget.reserve(600).is_some());
        assert!(budget.reserve(600).is_none(), "what is set aside for one copy is not there for another");
    }

    #[test]
    fn what_was_set_aside_and_not_spent_comes_back_and_what_was_spent_beyond_is_owed() {
        let mut budget = at_noon(24_000);
        budget.tick(24_000, NOON + 3_600_000);
        let hold = budget.reserve(900).unwrap();
        budget.settle(hold, 100);
        assert_eq!((budget.left(), budget.spent()), (900, (100, 100)));
        let hold = budget.reserve(10).unwrap();
        budget.settle(hold, 2_000);
        assert_eq!((budget.left(), budget.spent().1), (0, 2_100));
        budget.tick(24_000, NOON + 2 * 3_600_000);
        assert!(budget.reserve(1).is_none());
        budget.tick(24_000, NOON + 3 * 3_600_000);
        assert_eq!(budget.left(), 900);
    }

    #[test]
    fn a_new_day_begins_with_nothing() {
        let mut budget = at_noon(24_000);
        budget.tick(24_000, 101 * DAY - 1);
        let hold = budget.reserve(5_000).unwrap();
        budget.tick(24_000, 101 * DAY + 3_600_000);
        assert_eq!((budget.left(), budget.spent()), (1_000, (101, 0)));
        // A copy that went over midnight brings nothing back of the day before.
        budget.settle(hold, 100);
        assert_eq!((budget.left(), budget.spent().1), (900, 100));
    }

    #[test]
    fn of_two_limits_the_lower_counts_and_none_stops_all() {
        let mut budget = at_noon(0);
        budget.tick(24_000, NOON + 3_600_000);
        assert_eq!(budget.left(), 0);
        budget.tick(24_000, NOON + 2 * 3_600_000);
        budget.tick(240_000, NOON + 3 * 3_600_000);
        assert_eq!(budget.left(), 2_000);
        budget.tick(0, NOON + 4 * 3_600_000);
        assert!(budget.reserve(1).is_none());
    }

    #[test]
    fn a_lower_limit_counts_what_was_spent_before() {
        let mut budget = at_noon(24_000);
        budget.tick(24_000, NOON + 3_600_000);
        let hold = budget.reserve(700).unwrap();
        budget.settle(hold, 700);
        budget.tick(900, NOON + 3_600_000);
        assert_eq!(budget.left(), 200);
        budget.tick(500, NOON + 3_600_000);
        assert_eq!(budget.left(), 0);
    }

    #[test]
    fn a_clock_that_was_put_back_gives_nothing_twice() {
        let mut budget = at_noon(24_000);
        budget.tick(24_000, NOON + 3_600_000);
        budget.tick(24_000, NOON);
        budget.tick(24_000, NOON + 3_600_000);
        assert_eq!(budget.left(), 1_000);
    }

    #[test]
    fn pods_that_replace_each_other_spend_no_more_than_one_that_stays() {
        let daily = 86_400;
        let mut spent = 0;
        for life in 0..48 {
            let born = 100 * DAY + life * DAY / 48;
            let mut budget = Budget::new(born);
            budget.tick(daily, born);
            for second in 0..1_800 {
                budget.tick(daily, born + second * 1_000);
                while let Some(hold) = budget.reserve(7) {
                    budget.settle(hold, 7);
                    spent += 7;
                }
            }
        }
        assert!((80_000..=daily).contains(&spent), "{spent}");
    }

    #[test]
    fn what_was_spent_before_a_restart_is_told_and_gives_no_money() {
        let mut budget = at_noon(24_000);
        budget.recall(100, 500);
        budget.recall(99, 70);
        assert_eq!((budget.spent(), budget.left()), ((100, 500), 0));
    }
}
