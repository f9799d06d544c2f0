"""Handwritten-like digits drawn by the package itself: the data set that is always there.

A digit is a few strokes of a pen. Letter forms written down by hand are mixed, shaken, bent, slanted and inked at
random, then normalised as MNIST was: fitted into 20x20 pixels keeping the aspect, anti-aliased, centred by mass in
28x28. Nothing in it was fitted to pixels: its forms and the numbers of the hand were chosen by trial, looking at
which of MNIST's training images were misread by a network that had seen these digits alone.
"""

import functools
import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError
from xpnet.files import write_atomically

from .formats import read_npz_arrays

__all__ = ["draw", "load_splits"]

logger = logging.getLogger("xpnet")

_Floats = NDArray[np.float32]
_Images = NDArray[np.uint8]
_Labels = NDArray[np.int32]
_Splits = tuple[tuple[_Images, _Labels], tuple[_Images, _Labels]]

_FORMAT = 1  # of the drawing: raise it when a seed's images change, and caches of the old drawing are left aside
_COUNTS = (60_000, 10_000)
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

_BOX, _SIZE = 20, 28  # pixels
_BLOCK = 1000  # images drawn by one generator
_CHUNK = 200  # images inked together: few enough for a core's cache, enough to keep the interpreter out of it
_MOST_THREADS = 16  # each takes some 10 MB
_POINTS = 96  # along all strokes of a digit: less than a pixel apart

# The hand. Spreads are standard deviations, lengths in letter heights unless said otherwise.
_MIX = 0.35  # Dirichlet's alpha: below 1 one variant prevails
_FIELD = 0.1  # smooth displacement that takes neighbouring strokes along
_WAVES = 4  # cosines per axis of that field
_SHAKE, _SHAKE_SPREAD = 0.032, 0.4  # each control point by itself; from writer to writer, in logarithms
_LOOSE_ENDS = 1.6  # a stroke's ends shake more than its middle
_BEND = 0.12  # quadratic part of a deformation of the page
_ASPECT = 0.25  # logarithm of width over height
_TURN = 0.08  # radians
_LEAN = (0.21, 0.27, 0.11, 0.05, 0.24, 0.14, 0.14, 0.05, 0.14, 0.14)  # mean slant of each digit
_SLANT = 0.26
_RADIUS = (1.2, 1.4, 1.15, 1.1, 1.05, 1.05, 1.1, 1.15, 1.05, 1.05)  # median radius of each digit's pen in pixels
_RADIUS_SPREAD, _RADII = 0.3, (0.6, 3.4)  # in logarithms; least and greatest, in pixels
_PRESSURE = 0.15  # logarithm of the radius along the strokes
_NIB = 0.17  # logarithm of the radius with the stroke's direction
_SOFT = 1.5  # pixels from paper to full ink

# Digit, share among the digit's forms, width over height, and variants to be mixed point by point. A point is xxyy in
# hundredths of the letter's box, y down; "!" after it makes a sharp corner; "/" lifts the pen.
_FORMS: tuple[tuple[int, float, float, tuple[str, ...]], ...] = (
    (0, 20, 0.82, (
        "5502 1018 0555 4598 9060 8515 4502 2010",
        "7508 2508 0255 4098 9565 8518 5002 2508",
        "3508 0545 2592 5599 9565 8518 5802 3505",
        "6012 2510 0550 4599 9555 8510 5000 3015",
    )),
    (0, 5, 0.85, (
        "6005 1018 0555 4598 9060 8515 5502 3008 3528",
        "4020 1520 0550 4099 9055 8515 6002 4008 5030",
        "2005 0535 1080 5099 9070 9030 7508 5504 3510",
    )),
    (0, 3, 0.85, (
        "2008 0550 3098 8080 9535 8005",
        "3015 0545 3098 8090 9545 6510",
        "1525 0570 4598 9575 9035 7515",
    )),
    (0, 2, 0.8, (
        "5502 1018 0555 4598 9060 8515 4502 / 8010 5050 2088",
        "5502 1018 0555 4598 9060 8515 4502 / 9500 5050 2090",
    )),
    (0, 2, 0.85, (
        "0510 4005 7510 4040 1570 4598 8575 9030 6505",
        "2020 5005 4512 1550 1580 4598 9060 8520 5002",
    )),
    (1, 60, 0.3, ("5000 5099", "4500 5599")),
    (1, 20, 0.3, ("5000 5050 5099", "4000 5050 5599")),
    (1, 10, 0.5, (
        "2520 5502! 5550 5599",
        "3510 5500! 5050 4599",
        "0528 5000! 5550 5099",
        "2540 5500! 5050 4599",
        "3025 5002! 5250 5399",
    )),
    (1, 10, 0.8, (
        "2022 5002! 5050 5097! / 1597 5097 8597",
        "2015 5500! 5250 5097! / 2597 5097 7597",
        "1018 5500! 5550 5597! / 0597 5095 9594",
    )),
    (2, 10, 0.85, (
        "0818 2004 5000 8012 8535 6058 3078 0595! 3592 6594 9895",
        "0510 4002 7502 9012 7535 5555 2578 0398! 3596 6596 9898",
        "1030 1510 5000 9015 8538 6260 3578 0894! 3092 6095 9590",
        "0515 1502 3500 5512 5535 4058 2078 0295! 3092 6592 9985",
        "2518 4004 6500 8512 8535 7058 4078 0298! 2596 5096 8096",
        "0520 2505 5508 7020 7035 5555 3072 1088! 4085 7085 9985",
        "2515 3505 5502 7012 7035 5560 3080 0090! 3588 6588 9988",
    )),
    (2, 8, 0.85, (
        "1018 3003 6500 8015 8038 6562 4085 1895 0285 0870 3062 6072 9895",
        "0520 3002 6502 8020 7545 6068 3592 0895 0078 1562 4060 7078 9999",
        "1525 3505 6505 7822 7248 5570 3088 1092 0580 1570 4070 7080 9995",
        "2015 4500 7008 8025 8050 6578 4095 1595 0580 2068 5070 7582 9595",
    )),
    (2, 6, 0.85, (
        "0520 2502 5500 7515 7040 4572 1592 0285 1070 3568 6082 9899",
        "1025 2502 6000 8018 7045 4070 2090 0588 0572 2565 5575 9590",
        "2025 3502 6500 8015 7040 4565 2085 0292 0075 2062 5078 9899",
        "0520 2503 5000 6820 6045 3575 1090 0080 1568 4070 7082 9992",
    )),
    (2, 7, 0.85, (
        "0820 2503 5500 8015 7842 5570 2590 0492 0472 2064 5080 7594 9890",
        "1018 3002 6500 8520 7045 4070 1892 0392 0275 2062 4572 7088 9892",
        "1015 3503 6002 8020 7542 5065 2088 1095 0885 2080 4588 7092 9890",
        "1015 2503 5000 7018 6842 4568 1892 0292 0272 2562 4080 6595 9885",
        "1015 3003 5500 6520 6042 4068 2590 1092 0878 2575 4582 7085 9980",
        "0535 1508 5000 9018 8848 6075 3095 1095 0582 2075 5085 7596 9898",
    )),
    (2, 3, 0.85, (
        "0818 2004 5000 8012 8535 5562 2082 1595 4096 7092 9885",
        "0515 1502 4500 7012 7035 4562 2082 2095 4596 7590 9980",
        "0530 1508 3505 4515 4035 2560 1080 1595 4096 7094 9985",
    )),
    (2, 2, 0.85, (
        "2525 0822 1505 5000 8515 8038 6060 3578 0894! 3592 6594 9895",
        "3018 1522 1508 4500 7515 7038 5060 2578 0394! 3090 6092 9590",
    )),
    (2, 3, 0.75, (
        "0530 1510 3005 3520 3040 2565 1090! 4096 7092 9985",
        "1520 2505 4505 5020 4545 3065 1590! 4590 7588 9980",
    )),
    (3, 10, 0.7, (
        "1012 4000 8008 8530 6044 3848! 7050 9568 8590 5099 1095 0282",
        "1008 4502 8505 8025 6040 4044! 7050 9070 8090 5099 2098 0590",
        "0515 3500 7005 7522 6036 4540! 8045 9965 9088 5599 2092 0578",
        "1512 5000 9010 9032 7046 5550! 7555 8870 7588 4599 1595 0288",
        "0508 3000 5505 6020 5535 3545! 6545 9960 9585 6599 2598 0892",
        "2515 4502 7005 7525 6040 4546! 6048 7562 7080 5595 3599 1590",
        "1515 4002 8008 8028 6542 3550! 7050 9570 8590 5099 1595 0272",
        "0512 3502 7008 7025 5538 3545! 6545 9562 9585 6099 2595 0278",
        "0805 4503 8005 7522 6035 5042! 7048 8562 8082 5598 3097 0592",
    )),
    (3, 5, 0.7, (
        "2012 5000 8510 8030 5546 4049 5049 7555 8572 7592 4099 1082",
        "1010 4500 8010 8030 5545 3548 4042 6545 9065 8590 4599 0585",
        "1010 4500 8012 7530 5544 4046 5048 7048 9568 8090 4599 0590",
        "0515 3000 7005 8025 7040 6048 6550 7055 9070 8090 4599 0292",
    )),
    (3, 8, 0.75, (
        "1515 3503 6005 7020 5533 3538! 6538 9555 9880 6598 3097 0588",
        "1010 3002 6002 7518 5832 4038! 7040 9860 9585 6599 2598 0290",
        "0512 3000 6508 7025 5838 4542! 7045 9562 9085 6098 2598 0285",
        "2012 4502 7508 7525 6035 3545! 6042 9058 9880 7098 3599 0890",
    )),
    (3, 6, 0.7, (
        "1012 4002 7510 7030 5543 5047 7555 9075 7593 4099 1092 0280",
        "0810 4002 8006 8528 6544 5548 7554 8872 7592 4599 1595 0288",
        "1515 4503 7512 7032 5545 5048 7055 8572 7090 4599 2098 0590",
    )),
    (3, 5, 0.7, (
        "0803 4502 8803! 6525 4042! 7548 9568 8590 4599 0590",
        "1005 5002 9505! 7030 5045! 7555 8572 7590 4099 0592",
    )),
    (4, 10, 0.8, (
        "2005 1530 0858! 4556 9554 / 7502 7050 6599",
        "1505 1030 1555! 4558 8555 / 8500 8050 7599",
        "2505 1530 0560! 4560 9560 / 6020 6060 6099",
        "3002 2030 1055! 4555 9050 / 8005 6550 5099",
        "1000 0525 0550! 4050 9548 / 7520 7050 7099",
        "3505 2020 0540! 4545 9540 / 8502 6550 4099",
        "2002 2030 2062! 5055 8552 / 8502 8050 8099",
        "2005 1530 0858! 4556 9554 / 6530 6260 6099",
        "3502 2530 1060! 4065 7564 / 9005 6550 5599",
    )),
    (4, 6, 0.7, (
        "2505 1525 1050 4055 7040 8020! 6550 4599",
        "1505 1025 2048 5050 7535 8020! 8555 9599",
        "1502 0535 2058 5555 8530 9002! 8045 7099",
        "1505 0535 2055 5558 8045 8505! 8045 7599",
        "2002 1030 1548 4552 7038 8015! 7550 6599",
    )),
    (4, 5, 0.8, (
        "6502 3530 0562! 5060 9860 / 6502 6450 6299",
        "7000 4030 0560! 5062 9558 / 7000 6850 6599",
        "5500 3025 0550! 5048 9548 / 6002 5850 5599",
        "6000 3020 0540! 4040 8538 / 6202 6850 7599",
        "4500 2530 0565! 4565 8565 / 4502 6550 8099",
    )),
    (5, 10, 0.8, (
        "2503 2022 1545! 4538 8045 9568 8090 5099 0595 / 2503 5503 9500",
        "3005 2522 2042! 5540 8550 9072 7590 4099 0588 / 3005 6005 9902",
        "3503 2525 2045! 4540 7048 8568 7088 4099 0595 / 3503 6503 9500",
        "2015 1530 1045! 4040 6552 6570 5085 2599 0295 / 2015 5508 9900",
        "3005 2825 2542! 5540 7548 8065 7085 4599 1590 / 3005 5004 7502",
        "2503 2022 1540! 5030 9048 9875 8095 4599 0585 / 2503 5503 9000",
        "4010 3025 2042! 4540 6052 6072 5088 2599 0590 / 4010 7005 9900",
        "1503 1525 1550! 4540 7550 8570 7590 4099 0595 / 1503 4503 7000",
        "2510 1530 0558! 4540 7545 9562 8085 4599 1099 / 2508 5505 9508",
        "2008 1525 1045! 4538 8542 9555 7075 4090 0599 / 2008 5005 8500",
    )),
    (5, 6, 0.8, (
        "9502 6003 2505! 1545! 4538 8045 9568 8090 5099 0595",
        "9902 6503 3508! 2045! 4542 7550 8568 7090 4599 0590",
        "9900 6010 3518! 2542! 4540 5552 6070 5088 3099 0290",
        "9900 7010 4522! 4038! 5045 6058 6072 5088 3098 0595",
        "9500 6505 3010! 2535! 5042 8050 9065 8085 5099 1592",
    )),
    (5, 5, 0.8, (
        "9508 6003 3012 2535 5548 8062 8082 5598 0592",
        "9902 6508 4012 3035 5050 7065 7082 4598 0590",
        "8510 5500 2512 1532 4545 8060 8585 5099 1090",
        "9900 6510 4025 3540 5050 6062 5580 3098 0595",
    )),
    (6, 12, 0.68, (
        "6502 3020 0855 1090 4599 7588 8075 6562 4565 3078",
        "3500 1520 0250 0880 4098 8592 9868 7550 4055 1070",
        "7002 3520 0855 0885 3599 7595 9575 7555 4055 1075",
        "5000 2525 0560 0885 3599 8095 9575 8058 5058 1578",
        "8510 6000 2015 0355 0585 4099 8590 9568 7050 1860",
        "2500 1525 0555 0582 3599 8095 9972 7552 4058 1582",
        "4000 2525 1050 0575 2095 6099 9578 8058 4560 1585",
        "9000 5015 1545 0275 2099 6095 7578 6562 3568 0585",
        "6502 3520 1050 0880 3599 7595 9070 6555 3060 0578",
    )),
    (6, 8, 0.8, (
        "3500 1525 0255 1085 4599 8592 9970 8050 5550 3568 3088",
        "2000 0825 0255 1085 4599 8592 9970 8050 5048 3062 2585",
        "5500 2525 0555 1085 5099 9088 9565 7552 5055 3570 3590",
        "6502 3520 1550 1580 4099 7590 8075 6562 4565 3075 2590",
        "6502 4520 3050 2580 4099 6592 7078 6065 4570 3580 3088",
        "7002 3520 0855 0885 3599 7595 9575 7555 4558 3572 5085",
        "3000 1525 0555 0885 3599 8095 9575 7558 4562 3075 4085",
    )),
    (6, 3, 0.85, (
        "2000 0835 0570 2092 5595 8580 8060 6552 5065 5582 8088",
        "1500 0535 0575 2595 6590 9072 8555 6555 5070 6588 9590",
    )),
    (7, 8, 0.75, (
        "0508 4505 9503! 7040 5070 4099",
        "0515 4500 9008! 7540 5572 4599",
        "0510 4508 9505! 8040 7070 6599",
        "0505 5005 9908! 6040 4070 2599",
        "0510 4015 9500! 6530 5060 4599",
    )),
    (7, 4, 0.75, (
        "0510 4000 7502 9015 7540 5572 4599",
        "0525 2508 6000 8515 7540 5572 4599",
        "0520 3505 7000 9520 9045 8072 6599",
        "0500 4005 7515 9035 9060 7082 5099",
        "2510 4502 6505 8020 8045 7572 5599",
        "0545 3015 7005 9820 9550 8075 6095",
    )),
    (7, 6, 0.75, (
        "0518 1205! 5010 9500! 6540 4570 3099",
        "0825 0805! 4505 9505! 7040 5070 4099",
        "0522 1008! 4505 9008! 7540 6070 5599",
        "0540 0808! 4503 9003! 8540 8070 7599",
        "0535 1510! 5005 9505! 8540 7070 6599",
    )),
    (7, 6, 0.75, (
        "1508 4005 7005! 6035 4570 3599 / 0555 5050 9945",
        "1012 4508 8008! 7035 6070 5599 / 3055 6052 9550",
        "0508 4505 9503! 7040 5070 4099 / 2552 5550 8548",
        "0515 4500 9008! 7540 5572 4599 / 3555 5552 9550",
        "0510 4508 8505! 7040 6070 5599 / 2545 6048 9548",
    )),
    (7, 3, 0.75, (
        "0825 0808! 4008 8005! 6540 5070 4099 / 2055 5550 9045",
        "1030 1010! 4505 8505! 7040 6070 5099 / 2552 6050 9948",
    )),
    (8, 10, 0.65, (
        "8515 5500 2010 2030 5045 8065 8590 5099 1590 1570 4550 7535 8515",
        "9010 5502 2515 2532 5048 7565 7590 4599 1590 1572 4055 7035 9505",
        "6002 3005 2020 3540 6055 8575 7092 4099 1085 2065 5045 8020 6505",
        "8520 6002 2508 2030 5048 8068 8090 5099 1590 1870 4552 7035 9008",
        "7008 5000 3010 3028 5042 8060 9085 5599 1090 1065 4042 6525 7008",
        "9015 6500 1808 1035 4552 6570 6590 4599 3090 3272 5055 8038 9515",
        "8515 5500 1512 2035 5052 6070 5590 4599 3590 4070 5552 8035 8515",
    )),
    (8, 5, 0.7, (
        "7520 5002 2510 2530 5048 7068 7088 4599 2088 2570 5050 9910",
        "9915 6005 2012 1530 5046 7065 6588 4099 1588 2570 4550 8525",
        "7018 5002 3008 2528 4545 6068 6090 4599 3090 3572 5052 8502",
        "9020 6000 2005 0530 4048 7065 7590 4599 1585 2565 5048 9530",
    )),
    (8, 1.5, 0.7, (
        "1508 3032 6060 7585 5599 3085 4560 7030 8502",
        "1005 2030 6055 8580 5099 1582 4055 8030 9000",
        "5015 3003 1512 2035 6060 7085 4599 2582 5055",
    )),
    (8, 1.5, 0.7, (
        "5015 3005 1520 3042 6062 7585 4599 2085 4060 7540 8515 7002 5015",
        "4520 2010 1525 3545 6565 6590 4099 2585 4060 7045 8525 6510 4520",
    )),
    (8, 4, 0.8, (
        "5000 2010 2035 5048 8035 8010 5000 / 5048 1562 1090 5099 9088 8562 5048",
        "5500 2515 2535 5045 7535 8015 5500 / 5045 1562 1090 4599 8588 8062 5045",
        "5000 1015 2035 5042 8035 9015 5000 / 5042 2062 2090 5099 8088 8062 5042",
    )),
    (9, 14, 0.6, (
        "8515 5500 1512 0535 3550 6545 8518! 8250 7599",
        "8020 5502 1020 1042 4048 7035 8510! 7550 6599",
        "8505 4502 0825 1545 5042 8022 9005! 7050 5099",
        "9010 5002 0820 0845 4552 8038 9512! 9050 8599",
        "7515 5000 2512 2032 4042 6535 8015! 6550 3099",
        "7012 4500 1015 0540 3555 7048 9010! 8550 7599",
        "8520 5000 1018 0545 3560 7050 8520! 8560 7599",
    )),
    (9, 6, 0.58, (
        "7512 5002 2510 2028 4536 7025 8012! 7050 6599",
        "8010 5500 2515 1535 3540 6528 8510! 6555 4599",
        "9012 6502 2515 0532 3042 7030 9015! 7555 5599",
        "8515 6002 3505 2025 4034 7028 9018! 8055 7099",
    )),
    (9, 4, 0.6, (
        "7512 4002 1015 0538 3550 6542 8510 9002! 8250 7599",
        "6015 3508 1025 1042 3550 6542 8015 8805! 8050 7599",
        "3002 1512 0530 1545 4050 7040 9018 9502! 8550 7599",
    )),
    (9, 4, 0.62, (
        "8515 5500 1512 0535 3550 6545 8518! 8555 8085 5099 1590",
        "8020 5502 1020 1042 4048 7035 8510! 8050 7580 5099 2095",
        "8515 5500 2012 1530 3540 6538 8518! 9055 8585 5599 0588",
    )),
    (9, 2, 0.68, (
        "8008 5002 1520 1545 4048 7532! 7060 5599",
        "9505 6005 2520 1542 4045 8030! 7060 5599",
        "7510 5005 2518 2035 4542 6532! 6060 4599",
        "7005 4002 1020 0545 3555 6540! 7060 8099",
        "9008 5502 2018 1542 4050 7035! 8060 7599",
    )),
    (9, 1, 0.8, (
        "8020 5000 1010 0050 3575 7565 8525! 8560 9099",
        "7525 4500 1015 0545 3060 6550 7525! 8060 9999",
        "8515 5000 1515 0535 3048 6540 8015! 8055 7099",
    )),
    (9, 3, 0.62, (
        "8022 5505 1515 0538 3552 7045 8022 / 8802 8250 7599",
        "7515 4505 1020 0842 3550 7042 8520 / 8510 7550 5599",
    )),
)  # fmt: skip


class _Form(NamedTuple):
    variants: _Floats  # (v, c, 2) control points around the origin, height 1
    spline: _Floats  # (k, c) from control points to points along the strokes
    loose: _Floats  # (c, 1) how freely each control point shakes


def _spline(points: _Floats, strokes: list[list[str]]) -> _Floats:
    """Catmull-Rom matrix (k, c) for points evenly along strokes through the control points (c, 2)."""
    segments = []
    first = 0
    for stroke in strokes:
        # Passing a point twice makes the tangents vanish there: a corner.
        knots = [first + i for i, point in enumerate(stroke) for _ in range(1 + point.endswith("!"))]
        knots = [knots[0], *knots, knots[-1]]
        segments += [knots[i : i + 4] for i in range(len(knots) - 3) if knots[i + 1] != knots[i + 2]]
        first += len(stroke)
    lengths = [float(np.linalg.norm(points[end] - points[start])) for _, start, end, _ in segments]
    ends = np.cumsum(lengths)
    matrix = np.zeros((_POINTS, len(points)), np.float32)
    for row, distance in zip(matrix, np.linspace(0, ends[-1], _POINTS), strict=True):
        i = min(int(np.searchsorted(ends, distance)), len(segments) - 1)
        t = 1 - (ends[i] - distance) / lengths[i]
        weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
        for knot, weight in zip(segments[i], weights, strict=True):
            row[knot] += weight / 2
    return matrix


def _compile(width: float, variants: tuple[str, ...]) -> _Form:
    pages = [[stroke.split() for stroke in variant.split("/")] for variant in variants]
    grid = [[(int(point[:2]), int(point[2:4])) for stroke in page for point in stroke] for page in pages]
    points = ((np.array(grid) / 99 - 0.5) * (width, 1)).astype(np.float32)
    loose = [_LOOSE_ENDS if i in (0, len(s) - 1) else 1.0 for s in pages[0] for i in range(len(s))]
    return _Form(points, _spline(points[0], pages[0]), np.array(loose, np.float32)[:, None])


@functools.cache
def _forms() -> tuple[tuple[_Form, ...], NDArray[np.float64]]:
    """All forms, and the cumulated shares of the forms in each digit, (10, forms)."""
    shares = np.zeros((10, len(_FORMS)))
    for i, (digit, share, _, _) in enumerate(_FORMS):
        shares[digit, i] = share
    cumulated = np.cumsum(shares, axis=1)
    return tuple(_compile(width, variants) for _, _, width, variants in _FORMS), cumulated / cumulated[:, -1:]


def _letters(rng: np.random.Generator, labels: _Labels) -> _Floats:
    """The pen's way through each letter, (2, n, k): x and y around the origin, height about 1."""
    n = len(labels)
    forms, shares = _forms()
    chosen = np.sum(rng.random(n)[:, None] >= shares[labels], axis=1)
    mix = rng.standard_gamma(_MIX, (n, max(len(form.variants) for form in forms))).astype(np.float32) + np.float32(1e-6)
    most = max(len(form.loose) for form in forms)
    shake = _SHAKE * np.exp(_SHAKE_SPREAD * _normal(rng, n, 1, 1)) * _normal(rng, n, most, 2)
    order = np.arange(_WAVES, dtype=np.float32)
    field = _FIELD * _normal(rng, n, 2, _WAVES, _WAVES) / (1 + order[:, None] + order)
    pen = np.empty((2, n, _POINTS), np.float32)
    for i in np.unique(chosen):
        who = chosen == i
        variants, spline, loose = forms[i]
        weights = mix[who, : len(variants)]
        points = np.einsum("nv,vcd->ncd", weights / weights.sum(1, keepdims=True), variants)
        waves = np.cos(np.pi * order * (points[..., None] + 0.5))
        points += np.einsum("ndij,nci,ncj->ncd", field[who], waves[:, :, 0], waves[:, :, 1])
        points += loose * shake[who, : len(loose)]
        pen[:, who] = np.einsum("kc,ncd->dnk", spline, points)
    return pen


def _handwriting(rng: np.random.Generator, labels: _Labels) -> tuple[_Floats, _Floats]:
    """The pen's way (2, n, k) in the pixels of the box, and its radii (n, k) in pixels."""
    n = len(labels)
    x, y = _letters(rng, labels)
    a, b, c, d, e, f = _BEND * _normal(rng, 6, n, 1)
    x, y = x + 2 * a * y * y + 2 * b * x * y + c * x * x, y + d * x * x + e * x * y + f * y * y
    x = x * np.exp(_ASPECT * _normal(rng, n, 1))
    turn = _TURN * _normal(rng, n, 1)
    x, y = x - turn * y, y + turn * x
    x = x - (_of_digit(_LEAN, labels) + _SLANT * _normal(rng, n, 1)) * y

    along = np.linspace(0, np.pi, _POINTS, dtype=np.float32)
    pressure = sum(_normal(rng, n, 1) * np.cos(i * along) for i in (1, 2, 3))
    dx, dy = np.gradient(x, axis=1), np.gradient(y, axis=1)
    nib = _normal(rng, n, 1) * (dx * dx - dy * dy) + _normal(rng, n, 1) * 2 * dx * dy
    nib /= dx * dx + dy * dy + np.float32(1e-6)
    radius = _of_digit(_RADIUS, labels) * np.exp(_RADIUS_SPREAD * _normal(rng, n, 1))
    radius = np.clip(radius, *_RADII)
    radii = radius * np.exp(_PRESSURE * pressure + _NIB * nib)

    pen = np.stack([x, y])
    low, high = pen.min(2, keepdims=True), pen.max(2, keepdims=True)
    scale = (_BOX - 2 * radius) / (high - low).max(0)
    return (pen - (low + high) / 2) * scale + _BOX / 2, radii


def _of_digit(values: tuple[float, ...], labels: _Labels) -> _Floats:
    return np.array(values, np.float32)[labels, None]


def _normal(rng: np.random.Generator, *shape: int) -> _Floats:
    return rng.standard_normal(shape, np.float32)


def _ink(pen: _Floats, radii: _Floats) -> _Floats:
    """Ink in [0, 1] on the box's pixels, (20, 20, n): the images come last, so that NumPy's inner loops are long."""
    x, y = np.ascontiguousarray(pen.transpose(0, 2, 1))
    per_radius = np.ascontiguousarray(1 / radii.T)
    centres = np.arange(0.5, _BOX, dtype=np.float32)[:, None]
    nearest = np.full((_BOX, _BOX, len(radii)), np.inf, np.float32)
    square = np.empty_like(nearest)
    for k in range(_POINTS):
        dx = (centres - x[k]) * per_radius[k]
        dy = (centres - y[k]) * per_radius[k]
        np.add(dx * dx, (dy * dy)[:, None], out=square)
        np.minimum(nearest, square, out=nearest)
    ink: _Floats = np.clip((1 - np.sqrt(nearest)) * (radii.mean(1) / _SOFT) + 0.5, 0, 1)
    ink *= ink * (3 - 2 * ink)
    ink /= ink.max((0, 1))
    return ink


def _draw_block(seed: int, block: int) -> tuple[_Images, _Labels]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))
    labels = rng.permutation(np.arange(_BLOCK, dtype=np.int32) % 10)
    pen, radii = _handwriting(rng, labels)
    room = _SIZE + 2 * _BOX  # so that no box is out of place before the page is cut out
    pages = np.zeros((_BLOCK, room, room), np.uint8)
    axis = np.arange(_BOX, dtype=np.float32)[:, None]
    for start in range(0, _BLOCK, _CHUNK):
        ink = _ink(pen[:, start : start + _CHUNK], radii[start : start + _CHUNK])
        centre = np.stack([(axis * ink.sum(other)).sum(0) for other in (1, 0)]) / ink.sum((0, 1))
        corners = _BOX + np.rint(_SIZE // 2 - centre).astype(int).T
        pixels = np.rint(255 * ink).astype(np.uint8)
        for i, (top, left) in enumerate(corners):
            pages[start + i, top : top + _BOX, left : left + _BOX] = pixels[:, :, i]
    return pages[:, _BOX:-_BOX, _BOX:-_BOX], labels


def draw(n: int, *, seed: int = 0) -> tuple[_Images, _Labels]:
    """Draw handwritten-like digits; image i of a seed is the same for every n and any number of threads.

    n : number of images, >= 0.
    seed : integer >= 0.
    Returns (images, labels): uint8 (n, 28, 28), 255 is full ink; int32 (n,) in 0..9, 100 of each in every thousand.
    Raises ValueError if n or seed is negative.
    """
    if n < 0 or seed < 0:
        raise ValueError(f"digits.draw: n and seed must not be negative, but n is {n} and seed {seed}")
    images = np.empty((n, _SIZE, _SIZE), np.uint8)
    labels = np.empty(n, np.int32)

    def fill(block: int) -> None:
        rows = slice(block * _BLOCK, (block + 1) * _BLOCK)
        drawn = _draw_block(seed, block)
        wanted = len(labels[rows])
        images[rows], labels[rows] = drawn[0][:wanted], drawn[1][:wanted]

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        list(pool.map(fill, range(-(-n // _BLOCK))))
    return images, labels


def load_splits(cache_dir: str | os.PathLike[str]) -> _Splits:
    """The standard set, 60,000 digits to train on (seed 0) and 10,000 to test on (seed 1), kept in a file once drawn.

    cache_dir : folder of that file, made where it is missing; where it can't be written, a warning says so.
    Returns ((images, labels), (images, labels)): the training and the test split, each as draw returns it.
    """
    path = Path(cache_dir) / f"digits-v{_FORMAT}.npz"
    splits = _read(path)
    if splits is None:
        splits = draw(_COUNTS[0], seed=0), draw(_COUNTS[1], seed=1)
        _write(path, splits)
    return splits


def _read(path: Path) -> _Splits | None:
    """The splits kept in a file, or None where there are none to be trusted."""
    if not os.path.lexists(path):
        return None
    try:
        arrays = read_npz_arrays(path, _ARRAYS)  # zip's CRC-32 finds the damage
        shapes = [(n, *shape) for n in _COUNTS for shape in ((_SIZE, _SIZE), ())]
        if [a.shape for a in arrays] != shapes or [a.dtype for a in arrays] != [np.uint8, np.int32] * 2:
            raise DataError(f"{path}: other arrays than expected")
    except DataError as error:
        logger.warning("%s; the set is drawn again", error)
        return None
    return (arrays[0], arrays[1]), (arrays[2], arrays[3])


def _write(path: Path, splits: _Splits) -> None:
    (train_images, train_labels), (test_images, test_labels) = splits
    content = io.BytesIO()
    np.savez(
        content,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        logger.warning("the digits drawn can't be kept, the next run draws them again: %s", error)
