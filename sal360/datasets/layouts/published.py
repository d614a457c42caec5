"""Which videos the published lists name, where a folder does not bring the list itself.

Facts from ``utils/train_60.txt`` (at 0e00c27) and ``utils/test_25.txt`` (at 01fcaf9) of
hsientzucheng/CP-360-Weakly-Supervised-Saliency, and from ``data/*_split_VRET.txt`` of
edurnebernal/SST-Sal at cbf554e.
"""

# As published: of the 25 lines two repeat another (23 names), and two names are in the training
# list as well. At dde55cc the file has 24 names; that version could not be had here.
_WILD360_TEST = """
va1AmV24VSs_2 1_ifgJqLqTY_8 3ae09TtHtbE_3 dPtkmmWKJkw_1 3ae09TtHtbE_2 78O5KiAAPJA_1 78O5KiAAPJA_1
xke2D-zIsaM_2 rtPkaCbL8Kg_2 va1AmV24VSs_3 O5f6wR4Ddqk_1 KC5YDoqVkBE_3 nywsA8wCCfY_1 O5f6wR4Ddqk_3
O5f6wR4Ddqk_3 rtPkaCbL8Kg_1 3ae09TtHtbE_1 wSzZJkc7j50_1 WZXXAmpqCcM_2 O5f6wR4Ddqk_2 3ae09TtHtbE_4
Q_BavaspcFc_2 rwFlpb54hyQ_2 Wc-B97hRwUs_2 wSzZJkc7j50_2
"""
_WILD360_TRAIN = """
KC5YDoqVkBE_6 H28i787-J_Q_4 xke2D-zIsaM_3 hwb0T_h6maY_6 hwb0T_h6maY_2 1_ifgJqLqTY_5 Pf1eDt0NWa4_2
sEipDyYURAg_2 Q_BavaspcFc_1 6Scd9baRjf8_1 Pf1eDt0NWa4_3 YLn2E5gYB_I_2 hwb0T_h6maY_4 T-aOVE22lEw_3
H28i787-J_Q_3 xke2D-zIsaM_1 WC7pGTpX_YQ_7 H28i787-J_Q_1 rtPkaCbL8Kg_5 Q_BavaspcFc_2 Kvm_0u7NKtQ_1
dPtkmmWKJkw_6 KC5YDoqVkBE_7 0hytHFbR0cI_1 H28i787-J_Q_2 JCpfGQNzNpI_2 rtPkaCbL8Kg_1 WZXXAmpqCcM_1
rtPkaCbL8Kg_3 WC7pGTpX_YQ_5 FOZ5OAoI4Jo_2 WC7pGTpX_YQ_4 _JxzR1jWdAM_1 T-aOVE22lEw_4 6Scd9baRjf8_3
hwb0T_h6maY_3 6Scd9baRjf8_2 rtPkaCbL8Kg_4 _X0oAFdl4A4_1 mlOiXMvMaZo_1 hwb0T_h6maY_5 Wc-B97hRwUs_1
WC7pGTpX_YQ_2 va1AmV24VSs_4 dPtkmmWKJkw_5 dPtkmmWKJkw_2 sEipDyYURAg_1 T-aOVE22lEw_1 JCpfGQNzNpI_1
mlOiXMvMaZo_3 JCpfGQNzNpI_3 T-aOVE22lEw_5 va1AmV24VSs_1 xke2D-zIsaM_4 mlOiXMvMaZo_2 KC5YDoqVkBE_1
xke2D-zIsaM_5 T-aOVE22lEw_2 _JxzR1jWdAM_2 hwb0T_h6maY_1
"""
_VRET_TEST = """
047 121 040 027 096 028 098 146 213 080 144 039 073 081 019 194 115 147 158 125 139 074 130 185 119
"""
# The first fifth, rounded up, is their validation set.
_VRET_TRAIN = """
166 059 132 133 020 025 018 090 099 124 049 177 143 057 058 199 203 150 188 041 171 175 033 173 030
110 210 184 212 095 189 100 161 186 068 052 022 118 129 065 169 075 183 003 168 092 154 170 112 013
148 072 029 153 010 165 016 200 204 179 026 012 117 035 014 044 201 140 034 159 160 066 005 135 006
067 164 131 192 178 070 103 083 069 064 001 190 060 136 180 087 097 094 056 053 205 046 123 149 054
163 134 195 015 032 151 043
"""

WILD360_TEST, WILD360_TRAIN = _WILD360_TEST.split(), _WILD360_TRAIN.split()
VRET_TEST, VRET_TRAIN = _VRET_TEST.split(), _VRET_TRAIN.split()
