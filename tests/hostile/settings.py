"""Settings that contradict themselves or mean nothing, with what a start then says."""

BAD_SETTINGS = {
    "limit of 0": ({"LIMITS__PIXELS": "0"}, "FRAME_CAPTURE_LIMITS__PIXELS: input should be greater than or equal to 1"),
    "limit below 0": ({"LIMITS__DECODED_FRAMES": "-1"}, "greater than or equal to 1; got '-1'"),
    "limit of a text": ({"LIMITS__STREAMS": "many"}, "valid integer"),
    "limit of NaN": ({"LIMITS__READ_RATIO": "nan"}, "LIMITS__READ_RATIO: "),
    "CPU time of 0": ({"POOL__CPU_TIME_LIMIT_S": "0"}, "greater than 0"),
    "silence without end": ({"POOL__SILENCE_LIMIT_S": "inf"}, "POOL__SILENCE_LIMIT_S: "),
    "hard limit below the soft one": ({"POOL__HARD_TIME_LIMIT_S": "5"}, "which then never comes"),
    "buckets as text": ({"STORE__SOURCE_BUCKETS": "photos"}, "should be a JSON list"),
    "bucket with a scheme": ({"STORE__SOURCE_BUCKETS": '["s3://photos"]'}, "a bucket and a prefix such as"),
    "bucket by pattern": ({"STORE__TARGET_BUCKETS": '["photos-*"]'}, "a bucket and a prefix such as"),
    "prefix that leads out": ({"STORE__TARGET_BUCKETS": '["photos/../x"]'}, "a bucket and a prefix such as"),
    "prefix with an empty part": ({"STORE__TARGET_BUCKETS": '["photos//x"]'}, "a bucket and a prefix such as"),
    "endpoint by file": ({"STORE__ENDPOINT_URL": "file:///etc/passwd"}, "should be like https://host:port"),
    "endpoint without host": ({"STORE__ENDPOINT_URL": "http://"}, "should be like https://host:port"),
    "endpoint with a password": ({"STORE__ENDPOINT_URL": "https://me:secret@h"}, "should have no user, password"),
    "broker by http": ({"AMQP__URL": "http://guest:secret@h/"}, "should be like amqp://user:password@host:5672/vhost"),
    "half a key": ({"STORE__ACCESS_KEY_ID": "AKIA"}, "set both"),
    "namespace of a pattern": ({"AMQP__NAMESPACE": "a.*"}, "AMQP__NAMESPACE: "),
    "records that lead out": ({"RECORDS__URI": "s3://bucket/../x"}, "RECORDS__URI: "),
    "sandbox of a new kind": ({"POOL__SANDBOX": "yes"}, "'required', 'best_effort' or 'off'"),
    "name that is none": ({"LIMITS__PIXEL": "5"}, "did you mean FRAME_CAPTURE_LIMITS__PIXELS?"),
}
"""Variables without their prefix, and a part of what is told."""
