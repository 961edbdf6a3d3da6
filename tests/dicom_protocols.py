"""Sequence parameters as scanners of several vendors write them, and the contrast that a radiologist would name.

Times in ms, angles in degrees. They are those of common protocols; no file of a scanner was copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydicom import Dataset

VENDORS = {
    "siemens": "SIEMENS",
    "ge": "GE MEDICAL SYSTEMS",
    "philips": "Philips Medical Systems",
    "canon": "TOSHIBA_MEC",
    "uih": "UIH",
    "hitachi": "Hitachi Medical Corporation",
    "hyperfine": "Hyperfine Research",
}
_SHORT = {
    "tr": "RepetitionTime",
    "te": "EchoTime",
    "ti": "InversionTime",
    "fa": "FlipAngle",
    "etl": "EchoTrainLength",
    "dim": "MRAcquisitionType",
    "opt": "ScanOptions",
    "name": "SequenceName",
    "text": "SeriesDescription",
    "agent": "ContrastBolusAgent",
    "type": "ImageType",
    "tesla": "MagneticFieldStrength",
}


@dataclass(frozen=True)
class Protocol:
    """A classic header in short: `contrast` is the expected one, "" where none may be told."""

    title: str
    contrast: str
    header: dict[str, Any]
    says: str = ""  # a word that the reason must hold

    def dataset(self) -> Dataset:
        dataset = Dataset()
        dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.4", "MR"
        for keyword, value in self.header.items():
            setattr(dataset, keyword, value)
        return dataset


def _p(vendor: str, title: str, contrast: str, scanning: str, variant: str, says: str = "", **short: Any) -> Protocol:
    header = {_SHORT.get(key, key): value for key, value in short.items()}
    header = {"Manufacturer": VENDORS[vendor], "ImageType": ["ORIGINAL", "PRIMARY", "M"], **header}
    if scanning:
        header |= {"ScanningSequence": scanning.split("/"), "SequenceVariant": variant.split("/")}
    return Protocol(f"{vendor} {title}", contrast, header, says)


# fmt: off
PROTOCOLS = [
    # T1, gradient echoes
    _p("siemens", "MPRAGE 3T", "t1", "GR/IR", "SK/SP/MP", tr=2300, te=2.98, ti=900, fa=9, dim="3D",
       name="*tfl3d1_16ns", text="t1_mprage_sag_p2_iso"),
    _p("siemens", "MPRAGE 7T", "t1", "GR/IR", "SK/SP/MP", tr=2600, te=2.49, ti=1100, fa=5, dim="3D", tesla=6.98),
    _p("siemens", "MPRAGE of XA, IR not said", "t1", "GR", "SK", tr=1800, te=2.41, ti=900, fa=9, dim="3D"),
    _p("siemens", "FLASH 2D", "t1", "GR", "SP/OSP", tr=250, te=2.46, fa=70, dim="2D", name="*fl2d1",
       text="t1_fl2d_tra"),
    _p("siemens", "FLASH 3D, no words", "t1", "GR", "SP", tr=22, te=9.2, fa=30, dim="3D", name="*fl3d1", text="MNI"),
    _p("siemens", "VIBE post", "t1ce", "GR", "SP", tr=5.1, te=2.39, fa=12, dim="3D", name="*fl3d1", agent="Gadovist"),
    _p("ge", "BRAVO", "t1", "GR", "SS/SP/SK", tr=8.2, te=3.2, ti=450, fa=12, dim="3D", text="Sag T1 BRAVO"),
    _p("ge", "IR-FSPGR", "t1", "GR", "SS/SP", tr=7.0, te=2.8, ti=400, fa=11, dim="3D", text="3D IR FSPGR"),
    _p("ge", "BRAVO without its TI", "t1", "GR", "SS/SP/SK", tr=8.2, te=3.2, fa=12, dim="3D"),
    _p("philips", "3D T1 TFE without TI", "t1", "GR", "MP", tr=8.1, te=3.7, fa=8, etl=220, dim="3D",
       text="sT1W_3D_TFE"),
    _p("philips", "3D T1 TFE, variant SS, words silent", "t1", "GR", "SS", tr=6.8, te=3.1, fa=9, etl=240, dim="3D"),
    _p("philips", "2D T1 FFE", "t1", "GR", "SS", tr=256.4, te=3.568, fa=80, dim="2D", DiffusionBValue=0.0),
    _p("philips", "3D T1 TFE post", "t1ce", "GR", "MP", tr=8.1, te=3.7, fa=8, etl=220, dim="3D", agent="DOTAREM 10 ML"),
    _p("canon", "3D MPRAGE", "t1", "GR/IR", "SP", tr=5.8, te=2.7, ti=900, fa=9, dim="3D", text="3D MPRAGE"),
    _p("uih", "gre_fsp", "t1", "GR/IR", "SP/MP", tr=7.2, te=3.1, ti=750, fa=10, dim="3D", name="gre_fsp",
       text="t1_gre_fsp_3d_sag_iso"),
    _p("hitachi", "open 0.3T GRE", "t1", "GR", "SP", tr=30, te=13.8, fa=40, dim="3D", tesla=0.3),
    # T1, spin echoes
    _p("siemens", "SE", "t1", "SE", "SP/OSP", tr=550, te=9.1, fa=90, dim="2D", name="*se2d1", text="t1_se_tra"),
    _p("siemens", "SE post", "t1ce", "SE", "SP/OSP", tr=600, te=9.1, fa=90, dim="2D", text="t1_se_tra_KM"),
    _p("siemens", "SPACE", "t1", "SE", "SK/SP/OSP", tr=700, te=11, fa=120, etl=40, dim="3D", name="*spc3d1_42ns"),
    _p("siemens", "dark-fluid T1", "t1", "SE/IR", "SK/SP/MP", tr=2000, te=9, ti=860, fa=150, name="*tir2d1_5",
       text="t1_tirm_tra_dark-fluid"),
    _p("ge", "T1 FLAIR", "t1", "SE/IR", "SK", tr=2000, te=10, ti=750, fa=111, etl=7, dim="2D", text="Ax T1 FLAIR"),
    _p("ge", "T1 FLAIR 3T post", "t1ce", "SE/IR", "SK", tr=2800, te=24, ti=1000, fa=111, text="Ax T1 FLAIR +C"),
    _p("ge", "CUBE T1", "t1", "SE", "SK", tr=600, te=15, fa=90, etl=24, dim="3D", text="Sag CUBE T1"),
    _p("philips", "T1 TSE", "t1", "SE", "SK", tr=519.5, te=23.06, fa=90, etl=7, ti=0, text="T1W_TSE"),
    _p("philips", "T1 IR-TSE", "t1", "SE/IR", "SK", tr=2400, te=15, ti=800, fa=90, etl=5, text="T1W_IR_TSE"),
    _p("canon", "T1 SE", "t1", "SE", "NONE", tr=500, te=15, fa=90, dim="2D"),
    _p("hyperfine", "T1 64 mT", "t1", "SE/IR", "NONE", tr=880, te=5.8, ti=354, fa=90, dim="3D", tesla=0.064, text="T1"),
    # T2
    _p("siemens", "TSE", "t2", "SE", "SK/SP/OSP", tr=4500, te=96, fa=150, etl=15, name="*tse2d1_15", text="t2_tse_tra"),
    _p("siemens", "SPACE T2", "t2", "SE", "SK/SP", tr=3200, te=408, fa=120, etl=258, dim="3D", name="*spc3d1_282ns"),
    _p("siemens", "HASTE", "t2", "SE", "SK/SP/OSP", tr=1400, te=91, fa=150, name="*h2d1_128", text="t2_haste_tra"),
    _p("ge", "FSE", "t2", "SE", "SK", tr=4000, te=102, fa=125, etl=16, opt=["FAST_GEMS", "FC"], text="Ax T2 FSE"),
    _p("ge", "PROPELLER, protocol names the examination", "t2", "SE", "SK", tr=5300, te=114, fa=142,
       text="Ax T2 PROP", ProtocolName="BRAIN STROKE MRA DWI"),
    _p("ge", "CUBE T2", "t2", "SE", "SK", tr=2500, te=62, fa=90, etl=100, dim="3D", text="Sag CUBE T2"),
    _p("philips", "T2 TSE", "t2", "SE", "SK", tr=3000, te=80, fa=90, etl=15, DiffusionBValue=0, text="T2W_TSE"),
    _p("philips", "VISTA T2", "t2", "SE", "SK", tr=2500, te=245, fa=90, etl=133, dim="3D", text="T2W_3D_VISTA"),
    _p("philips", "DRIVE T2", "t2", "SE", "SK", tr=1500, te=250, fa=90, etl=60, dim="3D", text="3D_DRIVE"),
    _p("philips", "GRASE", "t2", "SE/GR", "SK", tr=4000, te=100, fa=90, text="T2W_GraSE"),
    _p("hyperfine", "T2 64 mT", "t2", "SE", "NONE", tr=2000, te=200, fa=90, dim="3D", tesla=0.064),
    _p("uih", "fse", "t2", "SE", "SK", tr=4200, te=111.3, fa=90, name="fse", text="t2_fse_tra"),
    _p("siemens", "T2 after an agent stays T2", "t2", "SE", "SK", tr=4500, te=96, fa=150, agent="Gadovist"),
    # FLAIR
    _p("siemens", "dark-fluid", "flair", "SE/IR", "SK/SP/MP", tr=9000, te=85, ti=2500, fa=150, name="*tir2d1_16",
       text="t2_tirm_tra_dark-fluid"),
    _p("siemens", "SPACE FLAIR, called T2", "flair", "SE/IR", "SK/SP/MP", tr=5000, te=394, ti=1800, fa=120, dim="3D",
       name="*spcir3d1_278ns", text="t2_space_ir_sag"),
    _p("ge", "T2 FLAIR", "flair", "SE/IR", "SK", tr=8802, te=120, ti=2250, fa=160, text="Ax T2 FLAIR"),
    _p("ge", "FLAIR, no IR in ScanningSequence", "flair", "SE", "SK", tr=8002, te=126, ti=2000, fa=90),
    _p("ge", "CUBE FLAIR", "flair", "SE/IR", "SK", tr=6502, te=116, ti=1966, fa=90, etl=230, dim="3D"),
    _p("philips", "FLAIR", "flair", "SE/IR", "SK", tr=11000, te=125, ti=2800, fa=90, etl=25, text="FLAIR_longTR"),
    _p("philips", "VISTA FLAIR", "flair", "SE/IR", "SK", tr=4800, te=290, ti=1650, fa=90, dim="3D"),
    _p("philips", "FLAIR without its TI, words decide", "flair", "SE/IR", "SK", tr=11000, te=125, fa=90,
       text="FLAIR", says="description"),
    _p("canon", "FLAIR", "flair", "SE/IR", "SK", tr=10000, te=105, ti=2700, fa=90),
    _p("hyperfine", "FLAIR 64 mT", "flair", "SE/IR", "NONE", tr=4000, te=194.4, ti=1400, fa=90, dim="3D", tesla=0.064),
    # PD
    _p("siemens", "PD of a dual echo, called both", "pd", "SE", "SK/SP", tr=3200, te=12, fa=150, text="pd+t2_tse_tra"),
    _p("siemens", "T2 of the same dual echo", "t2", "SE", "SK/SP", tr=3200, te=96, fa=150, text="pd+t2_tse_tra"),
    _p("philips", "PD of a dual echo", "pd", "SE", "SK", tr=8178, te=8, fa=90, text="PD/T2 dual TSE"),
    _p("ge", "first echo, called T2 dual echo", "pd", "SE", "SK", tr=3000, te=15, fa=90, text="AX T2 DE FSE"),
    _p("hitachi", "PD FSE", "pd", "SE", "SK", tr=4000, te=12, dim="2D"),
    # Traps: none of the contrasts
    _p("siemens", "STIR", "", "SE/IR", "SK", "STIR", tr=4000, te=60, ti=150, fa=150, text="t2_tirm_tra"),
    _p("ge", "STIR of 3T", "", "SE/IR", "SK", "STIR", tr=3500, te=45, ti=220, fa=111),
    _p("siemens", "DIR SPACE", "", "SE/IR", "SK/SP", "double inversion", tr=7500, te=318, ti=3000, fa=120, dim="3D"),
    _p("siemens", "DWI b 1000", "", "EP", "SK/SP", "echo-planar", tr=6500, te=89, fa=90, name="*ep_b1000t",
       text="ep2d_diff"),
    _p("ge", "DWI, not said to be EPI", "", "SE", "SK", "diffusion", tr=8000, te=82, fa=90, DiffusionBValue=1000.0),
    _p("siemens", "ADC", "", "EP", "SK/SP", "diffusion", tr=6500, te=89, fa=90, type=["DERIVED", "PRIMARY",
       "DIFFUSION", "ADC"]),
    _p("siemens", "BOLD", "", "EP", "SK", "echo-planar", tr=2000, te=30, fa=76, name="*epfid2d1_64"),
    _p("siemens", "TOF", "", "GR", "SP", "angiogram", tr=21, te=3.42, fa=18, dim="3D", AngioFlag="Y",
       name="*fl3d1r_t70"),
    _p("ge", "TOF known by its ramp", "", "GR", "SS/SP", "angiogram", tr=23, te=2.9, fa=20, dim="3D",
       opt=["FAST_GEMS", "RAMP_IS_GEMS"]),
    _p("ge", "TOF that nothing tells", "", "GR", "SS/SP", "--from", tr=23, te=2.9, fa=20, dim="3D"),
    _p("philips", "TOF known by its description", "", "GR", "SP", "angiography", tr=25, te=3.45, fa=20, dim="3D",
       text="s3DI_MC_TOF"),
    _p("siemens", "SWI", "", "GR", "SP", "susceptibility", tr=28, te=20, fa=15, dim="3D", name="*swi3d1r",
       type=["ORIGINAL", "PRIMARY", "M", "SWI"]),
    _p("ge", "T2* GRE", "", "GR", "SS/SP", "T2*", tr=600, te=20, fa=20, dim="2D", text="Ax T2 GRE"),
    _p("siemens", "CISS", "", "GR", "SK/SS/SP", "steady-state", tr=5.4, te=2.4, fa=50, dim="3D", name="*ci3d1rr"),
    _p("ge", "FIESTA", "", "GR", "SS/SK", "steady-state", tr=5.6, te=2.1, fa=60, dim="3D"),
    _p("siemens", "phase", "", "GR", "SP", "phase", tr=500, te=7.4, fa=60, type=["ORIGINAL", "PRIMARY", "P", "ND"]),
    _p("philips", "real part of an inversion recovery", "", "SE/IR", "SK", "real", tr=2400, te=15, ti=800,
       type=["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"]),
    _p("siemens", "field map", "", "GR", "SP", "--from", tr=600, te=4.92, fa=60, dim="2D"),
    _p("siemens", "second inversion of MP2RAGE", "", "GR/IR", "SK/SP/MP", "inversion", tr=5000, te=2.98, ti=2500,
       fa=5, dim="3D"),
    _p("siemens", "MP2RAGE UNI", "", "GR/IR", "SK/SP/MP", "map", tr=5000, te=2.98, ti=700, fa=4, type=["DERIVED",
       "PRIMARY", "M", "UNI"]),
    _p("siemens", "FGATIR", "", "GR/IR", "SP/MP", "white matter", tr=3000, te=4.39, ti=409, fa=11, dim="3D"),
    _p("siemens", "MT gradient echo", "", "GR", "SP/MTC", "magnetisation", tr=25, te=4.9, fa=15, dim="3D"),
    _p("ge", "localizer", "", "GR", "SS/SP", "localizer", tr=5.3, te=1.6, fa=30, dim="2D", text="3-Plane Loc"),
    _p("philips", "mDIXON fat", "", "GR", "SP", "fat", tr=5.6, te=1.8, fa=15, dim="3D", type=["DERIVED", "PRIMARY",
       "F", "F", "FFE"]),
    _p("siemens", "sodium", "", "GR", "SP", "hydrogen", tr=100, te=0.5, fa=90, dim="3D", ImagedNucleus="23NA"),
    _p("siemens", "MRCP", "", "SE", "SK", "fluid", tr=2500, te=703, fa=120, dim="3D"),
    # Contradictions and silence
    _p("siemens", "called FLAIR, acquired as T2", "", "SE", "SK", "description says flair", tr=4500, te=96, fa=150,
       text="t2_flair_tra"),
    _p("ge", "called T2, acquired as T1", "", "SE", "SK", "description says t2", tr=600, te=12, fa=90, text="Ax T2"),
    _p("siemens", "called pre, with an agent", "", "GR/IR", "SP/MP", "contrast agent", tr=1900, te=2.2, ti=900, fa=9,
       agent="Gadavist", text="t1 mprage pre contrast"),
    _p("siemens", "agent NONE", "t1", "GR/IR", "SP/MP", tr=1900, te=2.2, ti=900, fa=9, agent="NONE"),
    _p("philips", "agent NO", "t1", "SE", "SK", tr=550, te=12, fa=90, agent="No"),
    _p("ge", "agent by words", "t1ce", "GR", "SS/SP", tr=8.2, te=3.2, ti=450, fa=12, text="Ax T1 BRAVO post GAD"),
    _p("siemens", "agent in German", "t1ce", "SE", "SP", tr=550, te=9, fa=90, text="T1 tra nach KM"),
    _p("siemens", "no agent in German", "t1", "SE", "SP", tr=550, te=9, fa=90, text="T1 tra ohne KM"),
    _p("ge", "after an operation is no agent", "t1", "SE", "SK", tr=550, te=9, fa=90, text="Ax T1 post op"),
    _p("ge", "with and without", "t1", "SE", "SK", tr=550, te=9, fa=90, text="Ax T1 BRAIN W/WO CONTRAST"),
    _p("siemens", "nothing but words", "t2", "", "", "description", text="t2_tse_tra"),
    _p("siemens", "nothing at all", "", "", "", "missing"),
    _p("ge", "research mode, timing only", "", "RM", "NONE", "--from", tr=6.2, te=3.4, fa=12),
    _p("ge", "research mode, words agree", "t1", "RM", "NONE", "description", tr=6.2, te=3.4, fa=12, text="3D T1"),
    _p("ge", "intermediate TE, words decide", "t2", "SE", "SK", "description", tr=3000, te=55, fa=90, text="Ax T2 fs"),
    _p("ge", "intermediate TE, no words", "", "SE", "SK", "between PD and T2", tr=3000, te=55, fa=90),
]
# fmt: on
