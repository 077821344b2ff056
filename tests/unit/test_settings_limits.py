"""Settings that contradict each other are refused at start, with what would be right."""

import pytest
from pydantic import ValidationError

from worker.settings import Amqp, Pool, RecordSettings, Settings


def test_the_defaults_fit_into_the_brokers_delivery_timeout():
    assert Settings().amqp.consumer_timeout_s == 1800
    assert Settings(records=RecordSettings(uri="s3://bucket/records"))


@pytest.mark.parametrize("change", [{"amqp": Amqp(consumer_timeout_s=1000)}, {"pool": Pool(hard_time_limit_s=1500)}])
def test_limits_that_do_not_fit_into_the_brokers_delivery_timeout_are_refused(change):
    with pytest.raises(ValidationError, match=r"a task may take \d+ s .* takes it away after \d+ s: raise"):
        Settings(**change)


def test_limits_that_fit_exactly_are_accepted():
    assert Settings(amqp=Amqp(consumer_timeout_s=660 + 3 * 4 * 30 + 3 * 120 + 60))


def test_a_hard_limit_before_the_soft_one_is_refused():
    with pytest.raises(ValidationError, match=r"HARD_TIME_LIMIT_S .10 s. is less than .*SOFT_TIME_LIMIT_S .20 s."):
        Pool(soft_time_limit_s=20, hard_time_limit_s=10)
