"""The loops that people write with Python libraries: `loops.py NAME VIDEO FOLDER INTERVAL_S`.

Runs in an environment of its own, without the worker; each library is imported only where it is there.
"""

import sys
from pathlib import Path


def opencv_seeking(video: str, folder: Path, interval_s: float) -> None:
    import cv2  # noqa: PLC0415

    capture = cv2.VideoCapture(video)
    length_s = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    number = 0
    while number * interval_s < length_s:
        capture.set(cv2.CAP_PROP_POS_MSEC, number * interval_s * 1000)
        good, picture = capture.read()
        if not good:
            break
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        number += 1


def opencv_reading_on(video: str, folder: Path, interval_s: float) -> None:
    import cv2  # noqa: PLC0415

    capture = cv2.VideoCapture(video)
    step = max(round(capture.get(cv2.CAP_PROP_FPS) * interval_s), 1)
    number = 0
    while capture.grab():
        if number % step == 0:
            _, picture = capture.retrieve()
            cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        number += 1


def pyav_reading_on(video: str, folder: Path, interval_s: float) -> None:
    import av  # noqa: PLC0415

    wanted_s, number = 0.0, 0
    with av.open(video) as container:
        for frame in container.decode(video=0):
            if frame.time >= wanted_s:
                frame.to_image().save(folder / f"{number:05d}.jpg", quality=90)
                number += 1
                wanted_s += interval_s


def hash_detector(video: str, folder: Path, _interval_s: float) -> None:
    from scenedetect import HashDetector, SceneManager, open_video, save_images  # noqa: PLC0415

    stream, manager = open_video(video), SceneManager()
    manager.add_detector(HashDetector())
    manager.detect_scenes(stream)
    save_images(manager.get_scene_list(), stream, num_images=1, output_dir=str(folder))


LOOPS = {
    "OpenCV, seeking": opencv_seeking,
    "OpenCV, reading on": opencv_reading_on,
    "PyAV, reading on": pyav_reading_on,
    "PySceneDetect HashDetector": hash_detector,
}

if __name__ == "__main__":
    name, video, folder, interval_s = sys.argv[1:]
    LOOPS[name](video, Path(folder), float(interval_s))
