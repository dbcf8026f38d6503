"""The model of a trial, compiled for the Edge TPU: what a user deploys can fail for its own reasons.

split_concat_edgetpu.tflite of Coral's test data (google-coral/test_data, Apache License 2.0), unchanged: three inputs
of 8x8 pixels, one operation on the Edge TPU, none on the CPU. Made by Google's compiler for runtime version 13.
"""

import base64
import zlib

MIN_RUNTIME = 13
SHA256 = "f76de286d55330b6522b34c51d186d2cc154c73f96a67f16999465839d87092f"


def content() -> bytes:
    """The .tflite file."""
    return zlib.decompress(base64.b85decode("".join(_PACKED.split())))


# The file, packed by zlib, in base 85.
_PACKED = r"""
c-rk<Z)_Y#6@R<8zCZTGcTSzwY25hor`6G>_1R6pf`}|AM5a`2T2cs56qhEgfi$*K2O|E++p0(gDjK08l2WPpP$5$l8Y+aUQj}FyqNqfzh4{b+L@nqC3j#
I8Ev9j9d2eR+Zg+3@Zg0=qw8{M1iEnpj-kW{<cIP*5W_Ei4VAqbDZv=);=m8DVkcB*S;}$>yQxB#rrtO&S#H3*QmiSBiDSrz8O>-dy4gcxFv~Tad`zFQ@U
4QqX`zOZkyMAmO_g#VM6Nksg4o>XbTe#=o*nNdhANtb02k#mmy`drxAc?Xx{1-suGI4)*rDl}p#4Nz$n2cGThst(i%Hw~)a`IBNwUN~kU=yY`aZZ}}O*&F
y9|$=rl|i`!uo+<Xg&dywXKxt*2?+@a2?+@a2?+@a2?>b{j&3M8Viy#%=w%Us6_|!Fl`8o-G)GyADBQij|HjQXZW%0nX!D0E2W9}~a?-XE5)u*;5)u*;5)
u*;67PSwXB*Jyf4U^%0|oqF_Wva$BqSsxBqSsxBqSs*daQ>c@Y(Y;MsAO+)7U!iITtVoL4ni2XU{)}iGFVsWx9sWY)d`!#T@mozqIeJd-w0-D+bbR%>XY<
eQlb7KMH)7exB`a$6RfgCyBo(gTngcCoIcKL#K1afl|${vD&taI-8iDU9c?b)!*4svr<7#vp&C8SwV2Rov#MC<G@!BjD7t8D_;YpRhufyUs{o#Dj^{uAt5
0laVcXCIr0Ql$FsIVb)~K*_%F?aJ*Coqn>8m{9u>)CiEVef^6pS=j-9M<Y|8DNM>~TXMh-SP>8SCxm4iiV5)4aW!v1IF@Rtf@%ZIg^qEle5sqEt09qw)DP
+i-`%8$GA55I^u=%fAz+t!B#=NH?sChf|v54q*(MSJryvAx}+Kk3nb%B_Fulw1E)-lIS7);H{yr|;I>`gh;tINk<naN1)Py!_S51ZUj78qR#va2(&l)^b<
3lMajP8SHM&Z%fanK$}m%N_YT{mp_)oP7{}))5X`}cv_F<i$=yh*BVh!@-?|M1r*+mA>V+dYW=7qX|$mKli~EMRsEVv|3j=J8D0N(!|6{{_2-@X@&37$U2
eL6M*022Zam-n2fNYS|E}}gKOcejy8nXPe=B|3M*f@jm>~@<ZJRmo<&uz)kdTm&kdTm&kdTm&xTs+O>|P<wAR!?kAt50lAt50l5sdZhooi|F26mb?-U|iT
$Yzsof+Up0ym1wdr~p$cpTc|?|2~XqH}E+t1>keR^@RUCa(aV%7Bf8B2~fg*+L;c3(RMzUJi8L$=`Mi1UH<dUY5vM0Dm{T|9Mce0K;d)7r!egV{^oniyWX
-ad;WRxUzRmU+X~-)uuSvOdD(l;S{Ci2c{F2(CdLm<+~0rjz=1(Je2=5duN`F`6J@BIdH2|XyYHIlzkhuHmnSyk_G6ARe|MC5C7=vV0eQtyX025%qyE#s%
%FFky(s&6N7;}5)AzjCJMnjsK4H@zh%(r1hUfo5`?)Ndyz}J)RdY-^%DgDb=$QT$SY`m4ne+d_vsF1sTh2i3{C_&W_=d$MQWV652J)%<#`f;pFK=QA2?+@
a2?-CrvdB5icEKCdf`72D2PvF4e&rp`oA%=0v-tNV;9pMK1$>>O2Gw$nlAvONf9*V4oxk>+&Ai~&CBeIh>yBU=7u@X#rsJ4S2tGA~X%^EwxTi~sQ)lN)DI
t<GkLEegtVq3YTb9AIZ1v;IFaOWqzKX-XFQ4P~ed(OEuh+ic`ft^~etnB;&o#F1wdc8gH=dXF_1gE(i^29K2mantWBY!u%<cP7S=!fY->vTiJ|D0rcR5_+
c-K3vMo(dlFBfX>^s)I?rS|J`{EKnDuJ^{%xyx(ez80s?1^YVH>ubC}uWk}`a<+w8A#()t<d>>)yfK029Wr!qUprgIlbB~$pbQE}Tn-z9{X#7X8`-iG!oJ
S;0Q|}!-x)hNgZqypcs<B(cH{3NZDX3l6E!g%#k3!jj;R~d99I5mOcR*sInaY?4$HoP>0xmlOXA!%o#%0oQ$JGS7v<nM(k_v22j+XST#a-1<u&ZQx2vF9!
EvT(TlZ}$EIMTR<^7{A^K}J2V+F^dmTZ}SQ{ZMRSSIByirChv;|e@w1;we*_eH)PnD2NUnRZ^b#%)+(aiX;F@OEKuzgX4@QDz60$%?0iy)G`m&aB*=T`zR
5XUoBHue^wLojQqfEs8t&=Nq!~eH++y3yO)2h<rOR-|j$p11#Rg<Xs1FyX7And)k(D9ly^MpFA_R9Q66q_?y-&(K^F9yDaX1mdQ`BFNMav-f-kjw%#y*g<
~IEZ#ci)>kYl@ryT36GCXD&fCSd3k5{Z(AE>i_%X|xu8+AG!BU(CIkHuj6n0&KNw$aG)*|VC-ulGWd@#ykde4ga%b>tszK|U(r_OBz~K>72D{8Aqj7Po;u
KUw!`dE_(yoUHf**=vF9rNRasjCICe@ZR|?9{2{{TMOkB%$?6wn7~k;yno3`!6I|<KE?~eKy}|APgI!&wpBatXahqvz_TW?2TK*GC05}mZJ$HEBXnz@Ma9
^#B;W*{NM|zdWDkZSZf96YvMI+Lo!@zjp4i&}DsR*6q#>EI1twb_tN<RIMHNdH8m7<5N;J*~eDM%B3_QJ>eYrRorC$5jZj-7vpTdN7neX%F)Q>;aj*WSZJ
yu_$_7Kmz-*~ov?|lAgi&o(CkB-;5n-cnJT7PVH;A36`T7Nv#R#@1h;oV|5^g&0DOTV$QC*i8k=%3u{RY$Ypu)SV2>ngABcFWU;1xK{ks}2vljzdSgNB>Q
VOaJuCZvE5U9{t^JeWPx9`r))&|KVF4$J-$5x*n_GmG8UPd(ZqtcO2isysf(JTrUf&x)f@bQXltTitYT2MzF+Abml$i-rK+|Pm*_&zbo({C`Xm4g>4nlKc
>s1m(lr?fls`v*Q=mM)^|iXy)Zc-cycIxpV*Gh6Iq|348Ju=qm4sh^?he54Q6D0!%F(Us4vULyTj<y7uZ9<N1vxrG(M+T2_;)2V>LZO@R@>78)^fV6euY0
fC|G_%H5V%)}ya=t%uig^iOpC$COa|Q&s)5ic9}IwZSc%e<GCr6;=Ic0H=O@W}B^?zZOdWWe)wbiu-*4ii1C}_FHeOX|Ikp*<K|tXnVD8dE0NJ)*i<$QF{
>IRER7Je+kiFc|>WVzry`534Z($xV`C73Kkk;mh8R6>Vo#3ciCHM-rf~X4gRF15>jhy?+l9xE}#F^+GF)4YL9oHKPrVK$sZf@$9zQoxaGzKn92HlhpxyTb
Z_K4ED~dpzcapbT1mgz9Dn@X8LWINs=gWJ^uL?pkBndGspaNZ6fg_VuZ$M-9}A~HQIB7lt(?CSN`G5Deg)~}=9e}4Q^EYIPxbOEBMpB1s+s3`>ViJcS1fP
)X4cx{*d=NY;^S&_{A!Qd48NMEcw|QR<5ziZZ+a^jS}a9lA^;0i7kb3axa_SqZ*L7RB3{EBUP8sdgY&3@F<cj)Rm0f33+wuR<r9g*qT~~e`9z_Gc$Ar`-@
cd7nfEXUC6`6-<{r!9QRxWrC}@wW?}Re^pXTFHdSrdm$`t9-U~@C^C?m4I<I3s(G!_41e93HIZoZ_zR1<s&I+mNS)aY-k$Cvb0^sAxtXX^1Kqhq<_VKw?!
1oI`!#h0kPf~@Yxmzrs>(igP7TD5HL74gZ0gCF2_zh`?}!Z{wu#!u_KbmBO)KK`rMkv|QskN+BV<ez}n$A8T_@}CQoKN4#EmyO4ELYs~Tt2`Osq48LBCvr
aLc&tB)8Gw3c=^c-CUVq$vrp6!4&UpO+a`F0uo{QHXj9k3_VCGu$hpwjlA*Z?hp-=PrgOQKdAIyBb{s3L^`h(sTuRj=Ft@*?1ru<>j;}4H$?)Kve&D;JOj
BjTH`p6^H08(vP>pD)|1fqB5d2C&uvNQ2nS_Xd~b%EEZZu`5j>O*z<=itvIZ4^RY>rz#6<M#KY$6l{G?M3}TsNY|I&1GM9{V&sN`IhKb^2My^9ch}XQ^U7
_-CvjakPyMo>9bVW1I0F=CZ3smz~e`ZpBsVve7M5Lx=rt~9<W#UqR~y^59H1><PYS}>}ppUp1kc339Oehhua@)&S-RMKIiUm2qla^@Gf^T@f?kr?#)z}?)
v#d!R-&`9?Uz!y487yTNxi<{SBmqbh3G*ipX~rBLV4@^C8sh=x>xQ2W>W~7K@68r~e?9&9Dj;w$Dz2ZnB$!y)VDpsC{3&mrox36PiyStV9+x{+f5>hiy&7
hZ@F1E^xepx1Zgh>HI{Mn&+i`FMqi9dC7wk#sg%7o?ti8Y9BT4z4(akj*plj<0GaYm*g##*=PG3tkMJf`xVFk*(g1ieqN1a@%8eJ<kNFq4<&y(l6?BGh7n
5sTqODI`wgMw7nLaTH4<}qDEmi~PaW1!@~5N8r;oOTl0O$sJ{~kf$uFvr<P+bzB9#53$;ZY+4<&y(ntXgP7@_3PMU#)Y%~0}-iAeIPnd}K=|A_Kc&_l_ej
wm1LKq&ch5#^`B3?;v)`N*g7rKEFw3ERS&j!Hol3@6LRmy%S2u>7Gh{~b$u`LDUUHU0}%zPtQazf$twCi(Ae&GFyAR`@UbUelGW@ZXcki;e%n8p(g-<iGl
wc=@lfCSLw)u8EibLT|kMSMQCN{~EpV@?WzzUj7SL#mj&7tK#Lq##Qn1U-PPX`7f-Em;dT(<K@4`+Iab|xi((@3w^Ed-`7&j@!vO6P4HhDzfN6re4_vf$v
0x;8--B*9G!0z;^Q-nZxrI=GmLMni;vGRzOgPwK0|zCU5tE&_{O>z`3xOgA0wY3zOg<=K0|zCeT;mD_{RDe`3&XW5F?)<zOf-rK7)K?L!5jD`NoDg`3xT2
7@5z|e2a{SZ`6)T+byR?{GmTX4Q_b8u`T0_r?K(bs~LH5Ylt#l&w@4u3I(xfRe6%)SviVUq0_uy#_RWF+~f6QPJ7XOh+6wyQ)54^N&Bt1c<lFt$9~Uv?03
?0{8i8K*F4*AWIXE|8pMmOj5l5kMZo*fs77)rWV>AzfmjhQ&YTa77wg4$H(qQMb%)6-@#4HAUi>=w(-JB=LjLq7MT5)Ecri2=FD8G|_{3Fuw+mW`&V^p}f
~V34=_*%OA^7z@eEw>&ZK#dn#qGiI;-QM~?Ti*LZiA_$D_;D|=HkV#SK`HNe74w1y!h7ki>?2re?U)&-kZXnJqu{QIdq2^NB?a|_TQrR-_WUJjTf7t<VTM
e!?h4=yjTw<KYF~_2qiyyyx0sSKYF|vu7g<P#d;|D(c{HNDEZOj#bzk^(c{Ii31W>G>!IXFj~5%E<VTMeo1x@Kj~B!B5No_x4<$b+UOd*(T)cR)qq%tTBO
MnV-?)MJb%S`Z<QviX#tjf_yx6<}VvQF=Kg1d@*83sWc(KtBvBrzdeuy<*jQ3!y@nXFMvBryy62uxWHcJp|ych-`)_Ac#0I|l4jRA-?UTh9Ptnp$PgjnOn
`XICrFMcN5T)g;Xwz+umt67_GjE3eLpYrgHFTCg5UvRg-poD9G^|TTgdX2Je=ISo|mXMH;kdTm&kdTm&kdTnL7_o(dD%siWYzC5`vTp`<&stX7s<zD43ca
a=_RwF7N>Jz^CH4{QFD_D$;RXD$6Vn3jd=yg&(;3`9D#{%^&%S_|D2V*@B}Bik`e{)8ilqIO#r;^e$8pSXoPdarZ2g0ee7`UJdF9jZGa=*;mK)0-43NL6+
*tk(%MI-_00HtJ4k7=|5cMww$UiH-9O#vA%f5ww-7?WD$`qmYtABpib-Ptx?oS)a9q_I1;|=7}M7D0sonki5+tb<-Jwiqa++POt>PP@ozM#mzuF40(g7p0
#;#1;a
"""
