//! A limit on how long a machine's power keeps anybody waiting: a controller that hangs is a failure like any other, and
//! ends in HELD.

use std::io;
use std::time::Duration;

use boss_api::agent::BootParameters;

use super::{BootControl, Machine, PowerDriver, PowerError, PowerFuture, PowerStatus};

/// A driver whose every step ends within a limit.
#[derive(Debug)]
pub struct Limited<D> {
    driver: D,
    limit: Duration,
}

impl<D: PowerDriver> Limited<D> {
    /// Puts a limit on a driver.
    pub const fn new(driver: D, limit: Duration) -> Self {
        Self { driver, limit }
    }

    fn within<'a, T: Send + 'a>(
        &'a self,
        machine: &'a Machine,
        what: &'static str,
        step: PowerFuture<'a, T>,
    ) -> PowerFuture<'a, T> {
        Box::pin(async move {
            tokio::time::timeout(self.limit, step).await.unwrap_or_else(|_| {
                Err(PowerError { node: machine.name.clone(), what, source: io::ErrorKind::TimedOut.into() })
            })
        })
    }
}

impl<D: PowerDriver> BootControl for Limited<D> {
    fn boot_mfs<'a>(&'a self, machine: &'a Machine, parameters: &'a BootParameters) -> PowerFuture<'a, ()> {
        self.within(machine, "boot the memory file system", self.driver.boot_mfs(machine, parameters))
    }

    fn boot_disk<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        self.within(machine, "boot the own disk", self.driver.boot_disk(machine))
    }
}

impl<D: PowerDriver> PowerDriver for Limited<D> {
    // The caller has a deadline of its own, which people set.
    fn shut_down<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        self.driver.shut_down(machine)
    }

    fn power_off<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        self.within(machine, "power-off", self.driver.power_off(machine))
    }

    fn status<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, PowerStatus> {
        self.within(machine, "power status", self.driver.status(machine))
    }
}

#[cfg(test)]
mod tests {
    use boss_api::user::PowerConfig;

    use super::*;

    /// A controller that never answers.
    #[derive(Debug)]
    struct Silent;

    impl BootControl for Silent {
        fn boot_mfs<'a>(&'a self, _: &'a Machine, _: &'a BootParameters) -> PowerFuture<'a, ()> {
            Box::pin(std::future::pending())
        }

        fn boot_disk<'a>(&'a self, _: &'a Machine) -> PowerFuture<'a, ()> {
            Box::pin(std::future::pending())
        }
    }

    impl PowerDriver for Silent {
        fn shut_down<'a>(&'a self, _: &'a Machine) -> PowerFuture<'a, ()> {
            Box::pin(std::future::pending())
        }

        fn power_off<'a>(&'a self, _: &'a Machine) -> PowerFuture<'a, ()> {
            Box::pin(std::future::pending())
        }

        fn status<'a>(&'a self, _: &'a Machine) -> PowerFuture<'a, PowerStatus> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_controller_that_never_answers_is_a_failure_within_the_limit() {
        let driver = Limited::new(Silent, Duration::from_millis(1));
        let power = PowerConfig::Process { disks: [].into() };
        let machine = Machine { name: "pc1".parse().unwrap(), power };
        let failed = [
            driver.power_off(&machine).await.unwrap_err(),
            driver.boot_disk(&machine).await.unwrap_err(),
            driver.status(&machine).await.map(drop).unwrap_err(),
        ];
        for error in failed {
            assert_eq!(error.source.kind(), io::ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().ends_with("of pc1"), "{error}");
        }
    }
}
